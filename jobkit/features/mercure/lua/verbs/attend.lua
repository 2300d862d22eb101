-- Registers subscribers of the hub. args: for how many ms, then the id and the record (JSON) of each.
-- Returns id and record of those whose time is over, and deletes them: the caller publishes that they have left.
verb('attend', ALSO_WHEN_FULL, function(args)
  local records, ends = P .. 'subs', P .. 'subs:ends'
  for i = 2, #args, 2 do
    call('HSET', records, args[i], args[i + 1])
    call('ZADD', ends, NOW + args[1], args[i])
  end
  local left = {}
  for _, id in ipairs(call('ZRANGEBYSCORE', ends, '-inf', NOW, 'LIMIT', 0, 1000)) do
    left[#left + 1], left[#left + 2] = id, call('HGET', records, id) or ''
    call('HDEL', records, id)
    call('ZREM', ends, id)
  end
  -- If no server is left to say so, both expire.
  call('PEXPIRE', records, args[1] * 4)
  call('PEXPIRE', ends, args[1] * 4)
  return left
end)
