-- Keeps a schedule, or changes the one of its name. args: {name, spec (JSON text), timing (JSON text), next (slot), anchor,
-- is_code (it comes from the code), blobs (names of large parts)}, payload. Returns 1; 0 if it comes from the code and was
-- changed at run time; -1 if a large part is not there.
verb('schedule_put', UNLESS_FULL, function(args)
  local options, payload = cjson.decode(args[1]), args[2]
  local name, spec, timing = options.name, options.spec, options.timing
  local key = P .. 'schedule:' .. name
  local old = call('HMGET', key, 'spec', 'timing', 'next', 'code', 'paused', 'ended')
  if options.is_code then
    if old[1] and old[4] ~= '1' then return 0 end
    if old[1] == spec and call('GET', P .. 'schedule-args:' .. name) == payload then return 1 end
  end
  if Blobs.lacking(options.blobs or {}) then return -1 end
  Blobs.use('schedule ' .. name, options.blobs or {})
  call('SET', P .. 'schedule-args:' .. name, payload)
  call('HSET', key, 'spec', spec, 'timing', timing, 'rev', string.format('%.0f', NOW_US), 'code', options.is_code and 1 or 0, 'changed', NOW)
  call('HDEL', key, 'holds')
  call('PERSIST', key)
  call('PERSIST', P .. 'schedule-runs:' .. name)
  local look = number(old[3])
  if old[2] ~= timing or old[6] or not (old[3] or old[5]) then -- another row of slots; else it goes on in its old one
    look = options.next
    call('HSET', key, 'next', look, 'anchor', options.anchor, 'fired', 0, 'left_out', 0)
    call('HDEL', key, 'ended')
  end
  if old[5] then
    call('HDEL', key, 'next')
    call('ZADD', P .. 'schedules', '+inf', name)
  else
    call('ZADD', P .. 'schedules', look, name)
    Queue.wake_beside()
  end
  Schedules.changed(name)
  return 1
end)
