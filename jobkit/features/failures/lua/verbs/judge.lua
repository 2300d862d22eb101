-- Sets the state of groups of failures. args: {state ("open", "muted", "resolved", or "dropped": delete a group that has no
-- jobs any more), by}, group... Returns 1 for each that is known.
verb('judge', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local state = options.state
  local answers = each(args, 2, 1, 0, function(i)
    local group = args[i]
    local key = P .. 'group:' .. group
    if call('HEXISTS', key, 'state') == 0 then return 0 end
    local is_empty = call('EXISTS', P .. 'failed:' .. group) == 0
    if state ~= 'dropped' then
      call('HSET', key, 'state', state, 'by', options.by, 'changed', NOW)
      if is_empty then Failures.emptied(group) end
    elseif is_empty then
      call('DEL', key)
      call('ZREM', P .. 'groups', group)
    end
    return 1
  end)
  Records.tell_control()
  return answers
end)
