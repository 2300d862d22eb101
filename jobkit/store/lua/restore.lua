-- Puts ended jobs back that were written down elsewhere. ARGV: for each: id, us, state, record (JSON of fields, all text),
-- args, result, preview, log (JSON of {first, count, bytes, lines}, ...), artifacts (JSON of name to meta), ttl_ms, then how
-- many bodies of artifacts, and name, body of each. Returns 1 for each that is kept now, 0 where the id was known.
local answers = {}
local i = 1
while i <= #ARGV do
  local id, us, state, bodies = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 10])
  local ttl_ms = tonumber(ARGV[i + 9])
  local key = P .. 'job:' .. id
  local is_new = redis.call('EXISTS', key) == 0
  if is_new then
    if redis.call('ZSCORE', P .. 'jobs', id) then forget(id) end
    for name, value in pairs(cjson.decode(ARGV[i + 3])) do redis.call('HSET', key, name, value) end
    redis.call('PEXPIRE', key, ttl_ms)
    for n, name in ipairs({'args:', 'result:', 'preview:'}) do
      local value = ARGV[i + 3 + n]
      if value ~= '' then redis.call('SET', P .. name .. id, value, 'PX', ttl_ms) end
    end
    for _, chunk in ipairs(cjson.decode(ARGV[i + 7])) do
      redis.call('XADD', P .. 'log:' .. id, '*', 'f', chunk[1], 'c', chunk[2], 'b', chunk[3], 'l', chunk[4])
    end
    for name, meta in pairs(cjson.decode(ARGV[i + 8])) do redis.call('HSET', P .. 'artifacts:' .. id, name, meta) end
    for n = 1, bodies do
      redis.call('HSET', P .. 'bodies:' .. id, ARGV[i + 9 + 2 * n], ARGV[i + 10 + 2 * n])
    end
    for _, name in ipairs({'log:', 'artifacts:', 'bodies:'}) do redis.call('PEXPIRE', P .. name .. id, ttl_ms) end
    redis.call('ZADD', P .. 'jobs', us, id)
    redis.call('ZADD', P .. 'state:' .. state, us, id)
    redis.call('ZADD', P .. 'expiry', NOW + ttl_ms, id)
    local rec = read(id)
    redis.call('SADD', P .. 'queues', rec.queue)
    local kept = redis.call('HMGET', key, 'error', 'e' .. rec.seq)
    if state == 'failed' then note_failure(rec, kept[1] and object(kept[1]) or {}) end
    if kept[2] then redis.call('PUBLISH', P .. 'all', kept[2]) end -- pages that did not know the job read it
  end
  answers[#answers + 1] = is_new and 1 or 0
  i = i + 11 + 2 * bodies
end
return answers
