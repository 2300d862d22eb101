-- Keeps lines of the metrics of running attempts. args: for each: id, token, how ("append" the line, "replace" the last one by
-- it, or the "whole"), line (JSON), what subscribers get instead of it, or "", and the number of the news, as in `progress`.
-- Returns 1 if the token holds.
verb('measure', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 6, 0, function(i)
    local id, how, line = args[i], args[i + 2], args[i + 3]
    local rec = call('HMGET', P .. 'job:' .. id, 'token', 'state', 'seq', 'kept', 'measured')
    if rec[1] ~= args[i + 1] or rec[2] ~= 'running' then return 0 end
    if not Records.is_news(P .. 'job:' .. id, 'measured', rec[5], rec[1], args[i + 5]) then return 1 end
    if not rec[4] then call('HSET', P .. 'job:' .. id, 'kept', 1) end
    local key = P .. 'metrics:' .. id
    if how == 'whole' then call('DEL', key) end
    if how == 'replace' and call('LLEN', key) > 0 then call('LSET', key, -1, line) else call('RPUSH', key, line) end
    local told = args[i + 4] ~= '' and args[i + 4] or line
    call('PUBLISH', P .. 'ch:' .. id, Records.event(id, rec[3], 'logged', '{"lines":[],"metrics":' .. told .. '}'))
    return 1
  end)
end)
