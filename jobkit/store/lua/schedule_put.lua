-- Keeps a schedule, or changes the one of its name. ARGV: name, spec, timing, payload, next slot, anchor, whether it comes
-- from the code ("1"). Returns 1; 0 where it comes from the code and somebody has changed it at run time.
local name, spec, timing, payload = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = P .. 'schedule:' .. name
local old = redis.call('HMGET', key, 'spec', 'timing', 'next', 'code', 'paused', 'ended')
if ARGV[7] == '1' then
  if old[1] and old[4] ~= '1' then return 0 end
  if old[1] == spec and redis.call('GET', P .. 'schedule-args:' .. name) == payload then return 1 end
end
redis.call('SET', P .. 'schedule-args:' .. name, payload)
redis.call('HSET', key, 'spec', spec, 'timing', timing, 'rev', string.format('%.0f', NOW_US), 'code', ARGV[7], 'changed', NOW)
redis.call('HDEL', key, 'holds')
redis.call('PERSIST', key)
redis.call('PERSIST', P .. 'schedule-runs:' .. name)
local look = tonumber(old[3] or 0)
if old[2] ~= timing or old[6] or not (old[3] or old[5]) then -- another row of slots; else it goes on in its old one
  look = tonumber(ARGV[5])
  redis.call('HSET', key, 'next', look, 'anchor', ARGV[6], 'fired', 0, 'left_out', 0)
  redis.call('HDEL', key, 'ended')
end
if old[5] then
  redis.call('HDEL', key, 'next')
  redis.call('ZADD', P .. 'schedules', '+inf', name)
else
  redis.call('ZADD', P .. 'schedules', look, name)
  wake_workers()
end
schedule_changed(name)
return 1
