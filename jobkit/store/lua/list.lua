-- One page of ids, newest first. ARGV: index ("jobs" or "state:..."), below (a submit time in us, or "+inf"), limit, budget,
-- task, queue, search (lower case); the last three may be "". Returns {last us looked at or "", id, us, id, us, ...}.
local index, below, limit, budget = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local task, queue, search = ARGV[5], ARGV[6], ARGV[7]
local reply = {''}
while #reply < 1 + 2 * limit and budget > 0 do
  local chunk = redis.call('ZREVRANGEBYSCORE', P .. index, below, '-inf', 'WITHSCORES', 'LIMIT', 0, math.min(budget, 200))
  if #chunk == 0 then reply[1] = ''; return reply end
  for i = 1, #chunk, 2 do
    local id = chunk[i]
    budget = budget - 1
    below = '(' .. chunk[i + 1]
    reply[1] = chunk[i + 1]
    local rec = redis.call('HMGET', P .. 'job:' .. id, 'spec', 'queue', 'p', 'error', 'summary', 'worker')
    local matches = rec[1] and (queue == '' or rec[2] == queue)
    if matches and task ~= '' then -- decoding is dear: first see whether the name is in there at all
      matches = string.find(rec[1], task, 1, true) and cjson.decode(rec[1]).task == task
    end
    if matches and search ~= '' then
      local text = string.lower(rec[1] .. '\n' .. (rec[3] or '') .. '\n' .. (rec[4] or '') .. '\n' .. (rec[5] or '') .. '\n' .. (rec[6] or ''))
      matches = string.find(text, search, 1, true) ~= nil
    end
    if not rec[1] then redis.call('ZREM', P .. 'jobs', id); redis.call('ZREM', P .. index, id) end
    if matches then
      reply[#reply + 1] = id
      reply[#reply + 1] = chunk[i + 1]
      if #reply >= 1 + 2 * limit then break end
    end
  end
end
return reply
