-- Pauses, resumes or removes a schedule. ARGV: what ("pause", "resume", "remove"), name, and to resume: rev, next slot (0:
-- none is left), ttl_ms. Returns 1; 0 where there is none, or it was changed meanwhile.
local what, name = ARGV[1], ARGV[2]
local key = P .. 'schedule:' .. name
local s = redis.call('HMGET', key, 'rev', 'paused', 'ended')
if not s[1] then
  redis.call('ZREM', P .. 'schedules', name)
  return 0
end
if what == 'remove' then
  redis.call('DEL', key, P .. 'schedule-args:' .. name, P .. 'schedule-runs:' .. name)
  redis.call('ZREM', P .. 'schedules', name)
elseif what == 'pause' then
  if s[2] or s[3] then return 1 end
  redis.call('HSET', key, 'paused', NOW)
  redis.call('HDEL', key, 'next', 'holds')
  redis.call('ZADD', P .. 'schedules', '+inf', name)
else
  if s[1] ~= ARGV[3] then return 0 end
  if not s[2] then return 1 end
  redis.call('HDEL', key, 'paused')
  if tonumber(ARGV[4]) > 0 then
    redis.call('HSET', key, 'next', ARGV[4])
    redis.call('ZADD', P .. 'schedules', ARGV[4], name)
    wake_workers()
  else
    schedule_over(name, tonumber(ARGV[5]))
  end
end
schedule_changed(name)
return 1
