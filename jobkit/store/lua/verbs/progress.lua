-- Stores news of running attempts. args: for each: id, token, numbers (the inside of a JSON object, or ""), lines (a JSON list,
-- or ""), count of lines, size of lines in bytes. Returns 1 if the token holds.
local LOG_BYTES, LOG_HEAD_BYTES = 1000000, 100000 -- of a job's log are kept, of its beginning

verb('progress', ALSO_WHEN_FULL, function(args)
  local answers = {}
  for i = 1, #args, 6 do
    local id, token, numbers, lines = args[i], args[i + 1], args[i + 2], args[i + 3]
    local key = P .. 'job:' .. id
    local rec = call('HMGET', key, 'token', 'seq', 'client', 'state')
    local holds = rec[1] == token and rec[4] == 'running'
    if holds then
      local head = '{"id":"' .. id .. '","seq":' .. rec[2] .. ',"at":' .. NOW
      if numbers ~= '' then
        local rev = call('HINCRBY', key, 'rev', 1)
        call('HSET', key, 'p', numbers)
        local event = head .. ',"type":"progressed","data":{"rev":' .. rev .. ',' .. numbers .. '}}'
        call('PUBLISH', P .. 'all', event)
        call('PUBLISH', P .. 'ch:' .. id, event)
        if rec[3] then call('PUBLISH', P .. 'client:' .. rec[3], event) end
      end
      if lines ~= '' then
        local count, bytes = tonumber(args[i + 4]), tonumber(args[i + 5])
        local first = call('HINCRBY', key, 'logn', count) - count + 1
        local entry = call('XADD', P .. 'log:' .. id, '*', 'f', first, 'c', count, 'b', bytes, 'l', lines)
        local kept = call('HINCRBY', key, 'logb', bytes)
        local mark = call('HGET', key, 'loghead')
        if not mark and kept >= LOG_HEAD_BYTES then mark = entry; call('HSET', key, 'loghead', mark) end
        while kept > LOG_BYTES do -- head and tail stay, the middle is only counted
          local oldest = call('XRANGE', P .. 'log:' .. id, '(' .. mark, '+', 'COUNT', 1)[1]
          if not oldest or oldest[1] == entry then break end
          call('XDEL', P .. 'log:' .. id, oldest[1])
          call('HINCRBY', key, 'logdropped', oldest[2][4])
          kept = call('HINCRBY', key, 'logb', -oldest[2][6])
        end
        call('PUBLISH', P .. 'ch:' .. id,
          head .. ',"type":"logged","data":{"first":' .. first .. ',"lines":' .. lines .. '}}')
      end
    end
    answers[#answers + 1] = holds and 1 or 0
  end
  return answers
end)
