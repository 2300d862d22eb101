-- Of schedules; put behind head.lua. `schedules` is a sorted set: name by the moment at which some worker should look. For
-- most that is the next slot; for one that waits, is paused or has ended it is later.

local RUNS_KEPT = 14

-- Workers sleep until the next such moment, so they must hear of an earlier one: all of them, since some may be frozen.
local function wake_workers()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', NOW - 120000, '+inf', 'LIMIT', 0, 1000)) do
    redis.call('PUBLISH', P .. 'inbox:' .. id, 'T')
  end
end

local function schedule_changed(name)
  redis.call('PUBLISH', P .. 'ch:schedules', '{"id":"schedules","seq":0,"type":"logged","at":' .. NOW .. ',"data":'
    .. cjson.encode({name = name}) .. '}')
end

-- No slot is left: kept for a while, so that its last runs can be seen.
local function schedule_over(name, ttl_ms)
  redis.call('HDEL', P .. 'schedule:' .. name, 'next', 'holds')
  redis.call('HSET', P .. 'schedule:' .. name, 'ended', NOW)
  redis.call('ZADD', P .. 'schedules', NOW + ttl_ms + 1000, name)
  for _, kind in ipairs({'schedule:', 'schedule-args:', 'schedule-runs:'}) do
    redis.call('PEXPIRE', P .. kind .. name, ttl_ms)
  end
end

-- A job whose id begins with "s" has ended: if a schedule made it, its outcome is kept there, longer than the job, and a
-- slot that waits for its end may go.
schedule_ended = function(rec, state)
  local name = wish(rec, 'schedule')
  if type(name) ~= 'string' or redis.call('EXISTS', P .. 'schedule:' .. name) == 0 then return end
  local runs = P .. 'schedule-runs:' .. name
  for i, json in ipairs(redis.call('LRANGE', runs, 0, RUNS_KEPT - 1)) do
    local run = object(json)
    if run.job == rec.id then
      run.state, run.finished = state, NOW
      run.started = tonumber(redis.call('HGET', P .. 'job:' .. rec.id, 'started') or 0)
      redis.call('LSET', runs, i - 1, cjson.encode(run))
      break
    end
  end
  if redis.call('HGET', P .. 'schedule:' .. name, 'holds') == rec.id then
    redis.call('ZADD', P .. 'schedules', 'XX', NOW, name)
    wake_workers()
  end
  schedule_changed(name)
end
