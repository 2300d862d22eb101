-- Sets the state of groups of failures. args: {state ("open", "muted", "resolved", or "dropped": delete a group that has no
-- jobs any more), by}, group... Returns 1 for each that is known.
verb('judge', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local state = options.state
  local answers = {}
  for i = 2, #args do
    local group = args[i]
    local key = P .. 'group:' .. group
    local is_known = call('HEXISTS', key, 'state') == 1
    local is_empty = call('EXISTS', P .. 'failed:' .. group) == 0
    if is_known and state ~= 'dropped' then
      call('HSET', key, 'state', state, 'by', options.by, 'changed', NOW)
      if is_empty then Failures.emptied(group) end
    elseif is_known and is_empty then
      call('DEL', key)
      call('ZREM', P .. 'groups', group)
    end
    answers[#answers + 1] = is_known and 1 or 0
  end
  Records.tell_control()
  return answers
end)
