-- Keeps artifacts of running attempts. args: for each: id, token, name, meta (JSON), body (sealed), folder or "", and its number
-- among those of the attempt, as in `progress`. Returns 1 if the token holds. An artifact replaces an earlier one of its name. A
-- name that begins with a newline is a kind, a newline and a name: something that a feature `keeps`.
-- Artifacts are published on the job's channel.

verb('keep', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 7, 0, function(i)
    local id, name = args[i], args[i + 2]
    local rec = call('HMGET', P .. 'job:' .. id, 'token', 'state', 'seq', 'keeps')
    if rec[1] ~= args[i + 1] or rec[2] ~= 'running' then return 0 end
    if not Records.is_news(P .. 'job:' .. id, 'keeps', rec[4], rec[1], args[i + 6]) then return 1 end
    call('HSETNX', P .. 'job:' .. id, 'kept', 1)
    if string.byte(name) == 10 then
      local kind, own = string.match(name, '^\n([^\n]*)\n(.*)$')
      moments.keeps[kind](id, own, args[i + 3], args[i + 4], rec[3])
    else
      call('HSET', P .. 'artifacts:' .. id, name, args[i + 3])
      call('HSET', P .. 'bodies:' .. id, name, args[i + 4])
      local told = '{"name":' .. cjson.encode(name) .. ',' .. string.sub(args[i + 3], 2)
      call('PUBLISH', P .. 'ch:' .. id, Records.event(id, rec[3], 'logged', '{"lines":[],"kept":' .. told .. '}'))
    end
    if args[i + 5] ~= '' then call('HSET', P .. 'filed', id, args[i + 5]) end
    return 1
  end)
end)
