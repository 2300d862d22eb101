-- Fires a slot, once. args: {name, rev, slot (0: by hand), next (slot, 0: none), look (the next time to check), holds_for (the job
-- that the slot waits for), left_out (slots without a job), ttl_ms, runs (JSON texts, oldest first), jobs (how many)}, and
-- then for each job what `submit` takes.
-- Returns {-1} if the slot is not the next one any more, else what `submit` returns.
verb('schedule_fire', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local name, slot = options.name, options.slot
  local s = call('HMGET', P .. 'schedule:' .. name, 'rev', 'next', 'paused')
  if not s[1] or (slot > 0 and (s[1] ~= options.rev or tonumber(s[2] or 0) ~= slot or s[3])) then return {-1} end
  local key, holds_for = P .. 'schedule:' .. name, options.holds_for
  if holds_for then
    local was_held = call('HGET', key, 'holds') == holds_for
    call('HSET', key, 'holds', holds_for)
    call('ZADD', P .. 'schedules', Schedules.is_running(holds_for) and options.look or NOW, name)
    if not was_held then Schedules.changed(name) end
    return {}
  end
  Schedules.add_runs(name, options.runs)
  if options.jobs > 0 and slot > 0 then call('HINCRBY', key, 'fired', options.jobs) end
  if options.left_out > 0 then call('HINCRBY', key, 'left_out', options.left_out) end
  if slot > 0 then
    call('HDEL', key, 'holds')
    Schedules.go_on(name, options.next, options.look, options.ttl_ms)
  elseif call('PTTL', key) > 0 then
    call('PEXPIRE', P .. 'schedule-runs:' .. name, call('PTTL', key))
  end
  Schedules.changed(name)
  return Lifecycle.submit('', args, 2)
end)
