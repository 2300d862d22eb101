-- Pauses, resumes or removes a schedule. args: {what ("pause", "resume", "remove"), name, and to resume: rev, next (slot, 0:
-- none is left), ttl_ms}. Returns 1; 0 if there is none, or it was changed meanwhile.
verb('schedule_change', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local what, name = options.what, options.name
  local key = P .. 'schedule:' .. name
  local s = call('HMGET', key, 'rev', 'paused', 'ended')
  if not s[1] then
    call('ZREM', P .. 'schedules', name)
    Blobs.leave('schedule ' .. name)
    return 0
  end
  if what == 'remove' then
    call('DEL', key, P .. 'schedule-args:' .. name, P .. 'schedule-runs:' .. name)
    call('ZREM', P .. 'schedules', name)
    Blobs.leave('schedule ' .. name)
  elseif what == 'pause' then
    if s[2] or s[3] then return 1 end
    call('HSET', key, 'paused', NOW)
    call('HDEL', key, 'next', 'holds')
    call('ZADD', P .. 'schedules', '+inf', name)
  else
    if s[1] ~= options.rev then return 0 end
    if not s[2] then return 1 end
    call('HDEL', key, 'paused')
    Schedules.go_on(name, options.next, options.next, options.ttl_ms)
    Queue.wake_beside()
  end
  Schedules.changed(name)
  return 1
end)
