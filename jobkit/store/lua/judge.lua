-- Says what is to be thought of groups of failures. ARGV: state ("open", "muted", "resolved", or "dropped": forget a group
-- that has no jobs any more), who, group... Returns 1 for each that is known.
exceed_memory()
local state, who = ARGV[1], ARGV[2]
local answers = {}
for i = 3, #ARGV do
  local group = ARGV[i]
  local key = P .. 'group:' .. group
  local is_known = redis.call('HEXISTS', key, 'state') == 1
  local is_empty = redis.call('EXISTS', P .. 'failed:' .. group) == 0
  if is_known and state ~= 'dropped' then
    redis.call('HSET', key, 'state', state, 'by', who, 'changed', NOW)
    if is_empty then group_is_empty(group) end
  elseif is_known and is_empty then
    redis.call('DEL', key)
    redis.call('ZREM', P .. 'groups', group)
  end
  answers[#answers + 1] = is_known and 1 or 0
end
tell_control()
return answers
