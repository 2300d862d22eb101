-- Sets or ends a rule of the namespace (see hold.lua). ARGV: gate ("task:NAME" or "queue:NAME"), the rule (JSON with n,
-- count and period_ms, paused; null ends one part of it, {} nothing) or "" to end all of it. Returns the rule that holds now
-- (JSON), or "", and how many attempts have a place there.
exceed_memory()
local gate, change = ARGV[1], ARGV[2]
local rule = object(redis.call('HGET', P .. 'rules', gate) or '{}')
if change == '' then
  rule = {}
else
  for name, value in pairs(object(change)) do rule[name] = value ~= cjson.null and value or nil end
end
if type(rule.paused) == 'table' and not rule.paused.at then rule.paused.at = NOW end
if next(rule) then
  redis.call('HSET', P .. 'rules', gate, cjson.encode(rule))
else
  redis.call('HDEL', P .. 'rules', gate)
end
hold()

-- Attempts that run already count: they hold places from now on.
local kind, name = string.match(gate, '^(%a+):(.*)$')
if next(rule) then
  for _, id in ipairs(redis.call('ZRANGE', P .. 'leases', 0, -1)) do
    local rec = read(id)
    if rec and rec.state == 'running' and name == (kind == 'queue' and rec.queue or task_of(rec)) then
      local key = P .. 'job:' .. id
      local names, has = object(redis.call('HGET', key, 'gates') or '[]'), false
      for _, one in ipairs(names) do has = has or one == gate end
      if not has then
        names[#names + 1] = gate
        redis.call('ZADD', P .. 'holders:' .. gate, NOW, id)
        redis.call('HSET', key, 'gates', cjson.encode(names), 'terms', rec.terms or '{}')
      end
    end
  end
end

-- Workers learn that there are rules from their own hash, and claim anew.
local ruled = redis.call('EXISTS', P .. 'rules')
local told = {}
local function tell(id)
  if told[id] then return end
  told[id] = true
  if redis.call('EXISTS', P .. 'worker:' .. id) == 1 then redis.call('HSET', P .. 'worker:' .. id, 'ruled', ruled) end
  redis.call('PUBLISH', P .. 'inbox:' .. id, 'W')
end
for _, id in ipairs(redis.call('ZRANGE', P .. 'workers', 0, -1)) do tell(id) end
for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do -- those that have just begun
  for _, id in ipairs(redis.call('ZRANGE', P .. 'idle:' .. queue, 0, -1)) do tell(id) end
end
disarm(gate)
pump(gate)
tell_control()
return {next(rule) and cjson.encode(rule) or '', redis.call('ZCARD', P .. 'holders:' .. gate)}
