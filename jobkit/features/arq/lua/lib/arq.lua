-- Jobs that came by arq's own client: a record of ours, and beside it arq's own keys, which its readers (`Job.status`,
-- `Job.result`) and its own workers go by.
--
-- The record's `_arq` is its id there, `_arqq` the key of arq's queue, `_arqt` the number of earlier tries. A live job stays a member of that queue, for
-- `Job.result` waits as long as it is one. While an attempt runs, arq's in-progress key holds its token, as long as its
-- lease. `arq:{queue}` (hash) knows which members have a record here, and which one.

local ARQ_RETRY_S, ARQ_JOB_MS = 88400, 86400000 -- arq's own

-- What the record keeps: arq's id, the key of its queue, the number of earlier tries.
local function place(rec)
  return unpack(call('HMGET', rec.key, '_arq', '_arqq', '_arqt'))
end

-- Before a start. Returns true; false if the job is not in arq's queue any more, or a worker of arq's own runs it right now;
-- or nil and its due time if such a worker has deferred it since it became ready here. The tries of those workers count.
local function take(rec, lease_ms)
  local arq, queue, tried = place(rec)
  local score, held, count = call('ZSCORE', queue, arq), 'arq:in-progress:' .. arq, 'arq:retry:' .. arq
  if not score or call('EXISTS', held) == 1 then return false end
  local earlier = number(tried)
  local tries = number(call('GET', count)) - earlier
  if tries > rec.retried then
    rec.retried = tries
    call('HSET', rec.key, 'retried', tries)
  end
  if tonumber(score) > NOW then return nil, tonumber(score) end
  call('SET', held, rec.token, 'PX', lease_ms)
  call('SET', count, earlier + rec.retried + 1, 'EX', ARQ_RETRY_S)
  return true
end

-- The attempt is over and the job is not: it may be started again, from `due` on if that is given. An attempt that is no try
-- (the worker was stopped or died) is taken out of arq's count, unless a worker of arq's own has added to it since.
local function give_back(rec, due)
  local arq, queue, tried = place(rec)
  local held, count = 'arq:in-progress:' .. arq, 'arq:retry:' .. arq
  local holder, tries = call('GET', held), number(tried) + rec.retried
  if holder == rec.token then call('DEL', held) end
  if (not holder or holder == rec.token) and number(call('GET', count)) == tries + 1 then
    call('SET', count, tries, 'EX', ARQ_RETRY_S)
  end
  if due then call('ZADD', queue, 'XX', due, arq) end
end
on('back', give_back, 'arq')

-- With each heartbeat. True if a worker of arq's own has it by now: our lease had lapsed.
on('beats', function(rec, lease_ms)
  local key = 'arq:in-progress:' .. place(rec)
  local held = call('GET', key)
  if held and held ~= rec.token then return true end
  call('SET', key, rec.token, 'PX', lease_ms)
end, 'arq')

-- Nothing of arq's but `result` stays, for `ttl_ms` (0: none, below: for ever). `hold_ms` keeps the id in progress for
-- so long, which is how arq keeps a cron job from being run twice by workers whose clocks differ.
function Arq.clear(queue, arq, result, ttl_ms, hold_ms)
  if ttl_ms > 0 then
    call('SET', 'arq:result:' .. arq, result, 'PX', ttl_ms)
  elseif ttl_ms < 0 then
    call('SET', 'arq:result:' .. arq, result)
  end
  call('DEL', 'arq:job:' .. arq, 'arq:retry:' .. arq)
  if hold_ms > 0 then
    call('SET', 'arq:in-progress:' .. arq, '1', 'PX', hold_ms)
  else
    call('DEL', 'arq:in-progress:' .. arq)
  end
  call('ZREM', queue, arq)
  call('ZREM', 'arq:abort', arq)
  call('HDEL', P .. 'arq:' .. queue, arq)
  call('HDEL', P .. 'arq-ended:' .. queue, arq)
end

-- The job is none of ours any more: arq's payload, which we keep without a limit, gets one again.
local function leave(queue, arq)
  call('HDEL', P .. 'arq:' .. queue, arq)
  call('PEXPIRE', 'arq:job:' .. arq, ARQ_JOB_MS)
end

-- The job ends. Its worker gives the result for arq's readers; if no worker was asked (a job that waited was
-- cancelled, the last of its workers died), one that can write such a result is told to.
on('ended', function(rec, state, data)
  if rec.is_disowned then return end
  local arq, queue = place(rec)
  local given = rec.given
  if given then return Arq.clear(queue, arq, rec.given_body, given.ttl_ms, given.hold_ms) end
  give_back(rec)
  if call('ZSCORE', queue, arq) then
    local why = data.error and data.error.message or data.reason or ''
    call('HSET', P .. 'arq-ended:' .. queue, arq, cjson.encode({id = rec.id, state = state, why = why}))
  else
    leave(queue, arq)
  end
end, 'arq')

-- A worker of arq's own has the job, or had it: its record here is deleted, as if it had never been taken, and is made again if
-- that worker defers it. A job that was taken out of arq's queue by hand is cancelled: arq's own worker would delete the payload.
function Arq.disown(rec)
  local arq, queue = place(rec)
  local is_theirs = call('ZSCORE', queue, arq) or call('EXISTS', 'arq:job:' .. arq) == 0
  leave(queue, arq)
  if is_theirs then
    Queue.leave(rec)
    Records.emit(rec, 'deleted', {reason = "a worker of arq's own has it"}, {})
    Records.forget(rec.id)
    call('ZREM', P .. 'state:' .. rec.state, rec.id)
    if rec.terms then Limits.pump() end
    return
  end
  rec.is_disowned = true
  Lifecycle.conclude(rec, 'cancelled', {reason = "it was taken out of arq's queue"}, {}, Records.kept_ms(rec, 3600000))
end

on('starts', function(rec, lease_ms)
  local is_ours, due = take(rec, lease_ms)
  if due then
    rec.attempt = rec.attempt - 1
    local data = {reason = "a worker of arq's own has deferred it", retried = rec.retried}
    Lifecycle.go_back(rec, 'retried', data, {}, nil, due - NOW)
  elseif not is_ours then
    Arq.disown(rec)
  end
  return not is_ours
end, 'arq')
