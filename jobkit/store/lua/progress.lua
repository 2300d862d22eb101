-- News of running attempts. ARGV: for each: id, token, numbers (the inside of a JSON object, or ""), lines (a JSON list,
-- or ""), count of lines, size of lines in bytes. Then nothing. Returns 1 where the token holds.
exceed_memory()
local LOG_BYTES, LOG_HEAD_BYTES = 1000000, 100000
local answers = {}
for i = 1, #ARGV, 6 do
  local id, token, numbers, lines = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key = P .. 'job:' .. id
  local rec = redis.call('HMGET', key, 'token', 'seq', 'client', 'state')
  local holds = rec[1] == token and rec[4] == 'running'
  if holds then
    local head = '{"id":"' .. id .. '","seq":' .. rec[2] .. ',"at":' .. NOW
    if numbers ~= '' then
      local rev = redis.call('HINCRBY', key, 'rev', 1)
      redis.call('HSET', key, 'p', numbers)
      local event = head .. ',"type":"progressed","data":{"rev":' .. rev .. ',' .. numbers .. '}}'
      redis.call('PUBLISH', P .. 'all', event)
      redis.call('PUBLISH', P .. 'ch:' .. id, event)
      if rec[3] then redis.call('PUBLISH', P .. 'client:' .. rec[3], event) end
    end
    if lines ~= '' then
      local count, bytes = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
      local first = redis.call('HINCRBY', key, 'logn', count) - count + 1
      local entry = redis.call('XADD', P .. 'log:' .. id, '*', 'f', first, 'c', count, 'b', bytes, 'l', lines)
      local kept = redis.call('HINCRBY', key, 'logb', bytes)
      local mark = redis.call('HGET', key, 'loghead')
      if not mark and kept >= LOG_HEAD_BYTES then mark = entry; redis.call('HSET', key, 'loghead', mark) end
      while kept > LOG_BYTES do -- head and tail stay, the middle is only counted
        local oldest = redis.call('XRANGE', P .. 'log:' .. id, '(' .. mark, '+', 'COUNT', 1)[1]
        if not oldest or oldest[1] == entry then break end
        redis.call('XDEL', P .. 'log:' .. id, oldest[1])
        redis.call('HINCRBY', key, 'logdropped', oldest[2][4])
        kept = redis.call('HINCRBY', key, 'logb', -oldest[2][6])
      end
      redis.call('PUBLISH', P .. 'ch:' .. id,
        head .. ',"type":"logged","data":{"first":' .. first .. ',"lines":' .. lines .. '}}')
    end
  end
  answers[#answers + 1] = holds and 1 or 0
end
return answers
