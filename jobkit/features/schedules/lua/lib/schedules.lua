-- Schedules. `schedules` is a sorted set: name by the moment at which some worker should look. For
-- most that is the next slot; for one that waits, is paused or has ended it is later.

local RUNS_KEPT = 14

function Schedules.changed(name)
  call('PUBLISH', P .. 'ch:schedules', Records.event('schedules', 0, 'logged', cjson.encode({name = name})))
end

-- True if a job has not ended.
function Schedules.is_running(id)
  local state = call('HGET', P .. 'job:' .. id, 'state')
  return state and not IS_OVER[state]
end

-- Goes on with a slot; the next time to check is `look`. If no slot is left (0), it is kept for a while, so that its last runs
-- can be seen.
function Schedules.go_on(name, slot, look, ttl_ms)
  if slot > 0 then
    call('HSET', P .. 'schedule:' .. name, 'next', slot)
    call('ZADD', P .. 'schedules', look, name)
    return
  end
  call('HDEL', P .. 'schedule:' .. name, 'next', 'holds')
  call('HSET', P .. 'schedule:' .. name, 'ended', NOW)
  call('ZADD', P .. 'schedules', NOW + ttl_ms + 1000, name)
  for _, kind in ipairs({'schedule:', 'schedule-args:', 'schedule-runs:'}) do
    call('PEXPIRE', P .. kind .. name, ttl_ms)
  end
end

function Schedules.add_runs(name, runs)
  for _, run in ipairs(runs) do
    call('LPUSH', P .. 'schedule-runs:' .. name, run)
    local job = object(run).job
    if job then call('HSET', P .. 'schedule:' .. name, 'last', job) end
  end
  call('LTRIM', P .. 'schedule-runs:' .. name, 0, RUNS_KEPT - 1)
end

-- A job has ended: if a schedule made it, which its id tells ("s..."), its outcome is kept there, longer than the job, and
-- a slot that waits for its end may go.
on('ended', function(rec, state)
  if string.byte(rec.id) ~= 115 then return end
  local name = Records.wish(rec, 'schedule')
  if type(name) ~= 'string' or call('EXISTS', P .. 'schedule:' .. name) == 0 then return end
  local runs = P .. 'schedule-runs:' .. name
  for i, json in ipairs(call('LRANGE', runs, 0, RUNS_KEPT - 1)) do
    local run = object(json)
    if run.job == rec.id then
      run.state, run.finished = state, NOW
      run.started = number(call('HGET', rec.key, 'started'))
      call('LSET', runs, i - 1, cjson.encode(run))
      break
    end
  end
  if call('HGET', P .. 'schedule:' .. name, 'holds') == rec.id then
    call('ZADD', P .. 'schedules', 'XX', NOW, name)
    Queue.wake_beside()
  end
  Schedules.changed(name)
end)

-- Only claims of workers fire schedules.
on('demand', function(late, most, add)
  for _, name in ipairs(call('ZRANGEBYSCORE', P .. 'schedules', '-inf', late, 'LIMIT', 0, most)) do
    local known = readable(call, 'HMGET', P .. 'schedule:' .. name, 'spec', 'next', 'paused') or {}
    if known[1] and known[2] and not known[3] then
      local job = object(known[1]).job
      local queue, use = 'default', '{}'
      if type(job) == 'table' then
        queue = job.queue or queue
        use = job.resources and readable(cjson.encode, job.resources) or use
      end
      add(queue, use)
    end
  end
end)

Damage.listed.schedule = 'schedules'
