-- What has happened in a queue of arq's. ARGV: key of the queue, limit, window, whether aborts are obeyed ("1"), ttl_ms,
-- name of the queue here.
-- Returns {NOW, members, ended, new}:
--   ended: {id, JSON of how, payload, ...} of jobs that no worker ended: arq_settle.lua must be told their results;
--   new: {id, score, ttl of the payload in ms (-1: none, -2: no payload), tries, whether the id is taken here, payload,
--     ...}, at most `limit` of those among the first `window` members that have no record.
local queue, limit, window, ttl_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local tracked = P .. 'arq:' .. queue
local members = redis.call('ZCARD', queue)

if redis.call('HLEN', tracked) > members then -- somebody took jobs out of the queue
  local known = redis.call('HGETALL', tracked)
  for i = 1, #known, 2 do
    if not redis.call('ZSCORE', queue, known[i]) then
      local rec = read(known[i + 1])
      if not rec or not rec.arq then
        redis.call('HDEL', tracked, known[i])
      elseif rec.state == 'queued' or rec.state == 'scheduled' then
        disown(rec)
      end -- one that runs may end as it would have
    end
  end
end

if ARGV[4] == '1' then
  for _, arq in ipairs(redis.call('ZRANGE', 'arq:abort', 0, 999)) do
    local id = redis.call('HGET', tracked, arq)
    local rec = id and read(id)
    if rec then
      ask_to_stop(rec, "aborted by arq's client", ttl_ms)
      redis.call('ZREM', 'arq:abort', arq)
    elseif not redis.call('ZSCORE', queue, arq) and redis.call('EXISTS', 'arq:job:' .. arq) == 0 then
      redis.call('ZREM', 'arq:abort', arq) -- that job has ended; the next one of its id must not meet this
    end
  end
end

local ended = {}
local finished = redis.call('HGETALL', P .. 'arq-ended:' .. queue)
for i = 1, math.min(#finished, 2 * limit), 2 do
  ended[#ended + 1] = finished[i]
  ended[#ended + 1] = finished[i + 1]
  ended[#ended + 1] = redis.call('GET', 'arq:job:' .. finished[i]) or ''
end

-- Looking through the window is dear: not while half of it waits for a slot anyway.
local new = {}
local is_full = redis.call('ZCARD', P .. 'ready:' .. ARGV[6]) * 2 >= window
if members > redis.call('HLEN', tracked) and not is_full then
  local first = 0
  while first < window and #new < 6 * limit do
    local found = redis.call('ZRANGE', queue, first, math.min(window, first + 500) - 1, 'WITHSCORES')
    if #found == 0 then break end
    first = first + 500
    local ids = {}
    for i = 1, #found, 2 do ids[#ids + 1] = found[i] end
    local known = redis.call('HMGET', tracked, unpack(ids))
    for i, arq in ipairs(ids) do
      if not known[i] and #new < 6 * limit and redis.call('EXISTS', 'arq:in-progress:' .. arq) == 0 then
        local n = #new
        new[n + 1], new[n + 2], new[n + 3] = arq, found[2 * i], redis.call('PTTL', 'arq:job:' .. arq)
        new[n + 4] = tonumber(redis.call('GET', 'arq:retry:' .. arq) or 0)
        new[n + 5] = redis.call('EXISTS', P .. 'job:' .. arq)
        new[n + 6] = redis.call('GET', 'arq:job:' .. arq) or ''
      end
    end
  end
end
return {NOW, members, ended, new}
