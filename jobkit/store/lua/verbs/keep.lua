-- Keeps artifacts of running attempts. args: for each: id, token, name, meta (JSON), body (sealed), folder or "". Returns 1
-- if the token holds. An artifact replaces an earlier one of its name.
verb('keep', ALSO_WHEN_FULL, function(args)
  local answers = {}
  for i = 1, #args, 6 do
    local id = args[i]
    local rec = call('HMGET', P .. 'job:' .. id, 'token', 'state')
    local holds = rec[1] == args[i + 1] and rec[2] == 'running'
    if holds then
      call('HSET', P .. 'job:' .. id, 'kept', 1)
    call('HSET', P .. 'artifacts:' .. id, args[i + 2], args[i + 3])
      call('HSET', P .. 'bodies:' .. id, args[i + 2], args[i + 4])
      if args[i + 5] ~= '' then call('HSET', P .. 'filed', id, args[i + 5]) end
    end
    answers[#answers + 1] = holds and 1 or 0
  end
  return answers
end)
