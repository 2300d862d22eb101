-- What becomes of a slot, once. ARGV: name, rev, slot (0: by hand), next slot (0: none), when to look again, job that the
-- slot waits for, slots left out, ttl_ms, number of runs, runs (JSON, oldest first)..., number of jobs, and then what
-- submit.lua takes, which is put behind this script and stores the jobs.
-- Returns {-1} where the slot is not the next one any more, else what submit.lua returns.
exceed_memory()
local name, slot, next_slot = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local s = redis.call('HMGET', P .. 'schedule:' .. name, 'rev', 'next', 'paused')
if not s[1] or (slot > 0 and (s[1] ~= ARGV[2] or tonumber(s[2] or 0) ~= slot or s[3])) then return {-1} end
local holds_for, count = ARGV[6], tonumber(ARGV[9])
local key, first = P .. 'schedule:' .. name, 11 + count
if holds_for ~= '' then
  local state = redis.call('HGET', P .. 'job:' .. holds_for, 'state')
  local is_running = state == 'queued' or state == 'scheduled' or state == 'running'
  local was_held = redis.call('HGET', key, 'holds') == holds_for
  redis.call('HSET', key, 'holds', holds_for)
  redis.call('ZADD', P .. 'schedules', is_running and ARGV[5] or NOW, name)
  if not was_held then schedule_changed(name) end
  return {}
end
local jobs = tonumber(ARGV[10 + count])
for i = 1, count do
  redis.call('LPUSH', P .. 'schedule-runs:' .. name, ARGV[9 + i])
  local job = object(ARGV[9 + i]).job
  if job then redis.call('HSET', key, 'last', job) end
end
redis.call('LTRIM', P .. 'schedule-runs:' .. name, 0, RUNS_KEPT - 1)
if jobs > 0 and slot > 0 then redis.call('HINCRBY', key, 'fired', jobs) end
if tonumber(ARGV[7]) > 0 then redis.call('HINCRBY', key, 'left_out', ARGV[7]) end
if slot > 0 then
  redis.call('HDEL', key, 'holds')
  if next_slot > 0 then
    redis.call('HSET', key, 'next', next_slot)
    redis.call('ZADD', P .. 'schedules', ARGV[5], name)
  else
    schedule_over(name, tonumber(ARGV[8]))
  end
elseif redis.call('PTTL', key) > 0 then
  redis.call('PEXPIRE', P .. 'schedule-runs:' .. name, redis.call('PTTL', key))
end
schedule_changed(name)
if jobs == 0 then return {} end
local ARGV = {unpack(ARGV, first)}
