-- Stores news of running attempts. args: for each: id, token, numbers (the inside of a JSON object, or ""), lines (a JSON list,
-- or ""), count of lines, size of lines in bytes, number among the attempt's news (0 for none), count of the further lines that
-- notes among these lines stand for. Returns 1 if the token holds.
-- News that are known already change nothing: a worker repeats what had no reply, and an older message may come after it.
local LOG_BYTES, LOG_HEAD_BYTES = 1000000, 100000 -- of a job's log are kept, of its beginning

verb('progress', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 8, 0, function(i)
    local id, token, numbers, lines = args[i], args[i + 1], args[i + 2], args[i + 3]
    local key = P .. 'job:' .. id
    local rec = call('HMGET', key, 'token', 'seq', 'client', 'state', 'batch', 'told')
    if rec[1] ~= token or rec[4] ~= 'running' then return 0 end
    if not Records.is_news(key, 'told', rec[6], token, args[i + 6]) then return 1 end
    if numbers ~= '' then
      local rev = call('HINCRBY', key, 'rev', 1)
      call('HSET', key, 'p', numbers)
      local event = Records.event(id, rec[2], 'progressed', '{"rev":' .. rev .. ',' .. numbers .. '}')
      Records.publish({id = id, client = rec[3], batch = rec[5]}, event)
    end
    if lines ~= '' then
      local count, bytes = tonumber(args[i + 4]), tonumber(args[i + 5])
      local first = call('HINCRBY', key, 'logn', count) - count + 1
      local entry = call('XADD', P .. 'log:' .. id, '*', 'f', first, 'c', count, 'b', bytes, 'l', lines, 'm', args[i + 7])
      local kept = call('HINCRBY', key, 'logb', bytes)
      local mark = call('HGET', key, 'loghead')
      if not mark and kept >= LOG_HEAD_BYTES then mark = entry; call('HSET', key, 'loghead', mark) end
      while kept > LOG_BYTES and steps < STEPS_MOST do -- head and tail stay, the middle is only counted
        steps = steps + 1
        local oldest = call('XRANGE', P .. 'log:' .. id, '(' .. mark, '+', 'COUNT', 1)[1]
        if not oldest or oldest[1] == entry then break end
        call('XDEL', P .. 'log:' .. id, oldest[1])
        call('HINCRBY', key, 'logdropped', number(oldest[2][4]))
        call('HINCRBY', key, 'loghidden', number(oldest[2][10]))
        kept = call('HINCRBY', key, 'logb', -number(oldest[2][6]))
      end
      call('PUBLISH', P .. 'ch:' .. id, Records.event(id, rec[2], 'logged', '{"first":' .. first .. ',"lines":' .. lines .. '}'))
    end
    return 1
  end)
end)
