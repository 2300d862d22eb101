-- Keeps artifacts of running attempts. args: for each: id, token, name, meta (JSON), body (sealed), folder or "". Returns 1
-- if the token holds. An artifact replaces an earlier one of its name.
verb('keep', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 6, 0, function(i)
    local id, name = args[i], args[i + 2]
    local rec = call('HMGET', P .. 'job:' .. id, 'token', 'state')
    if rec[1] ~= args[i + 1] or rec[2] ~= 'running' then return 0 end
    call('HSET', P .. 'job:' .. id, 'kept', 1)
    call('HSET', P .. 'artifacts:' .. id, name, args[i + 3])
    call('HSET', P .. 'bodies:' .. id, name, args[i + 4])
    if args[i + 5] ~= '' then call('HSET', P .. 'filed', id, args[i + 5]) end
    return 1
  end)
end)
