-- Jobs that came by arq's own client: a record of ours, and beside it arq's own keys, which its readers (`Job.status`,
-- `Job.result`) and its own workers go by. 
--
-- `rec.arq` is its id there, the record's `arqq` the key of arq's queue. A live job stays a member of that queue, for
-- `Job.result` waits as long as it is one. While an attempt runs, arq's in-progress key holds its token, as long as its
-- lease. `arq:{queue}` (hash) knows which members have a record here, and which one.

local ARQ_RETRY_S, ARQ_JOB_MS = 88400, 86400000 -- arq's own

-- Before a start. Returns true; false if the job is not in arq's queue any more, or a worker of arq's own runs it right now;
-- or nil and its due time if such a worker has deferred it since it became ready here. The tries of those workers count.
function Arq.take(rec, lease_ms)
  local more = call('HMGET', rec.key, 'arqq', 'arqt')
  local score, held, count = call('ZSCORE', more[1], rec.arq), 'arq:in-progress:' .. rec.arq, 'arq:retry:' .. rec.arq
  if not score or call('EXISTS', held) == 1 then return false end
  local earlier = number(more[2])
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
function Arq.give_back(rec, due)
  local held, count = 'arq:in-progress:' .. rec.arq, 'arq:retry:' .. rec.arq
  local more = call('HMGET', rec.key, 'arqq', 'arqt')
  local holder, tries = call('GET', held), number(more[2]) + rec.retried
  if holder == rec.token then call('DEL', held) end
  if (not holder or holder == rec.token) and number(call('GET', count)) == tries + 1 then
    call('SET', count, tries, 'EX', ARQ_RETRY_S)
  end
  if due then call('ZADD', more[1], 'XX', due, rec.arq) end
end

-- With each heartbeat. False if a worker of arq's own has it by now: our lease had lapsed.
function Arq.renew(arq, token, lease_ms)
  local held = call('GET', 'arq:in-progress:' .. arq)
  if held and held ~= token then return false end
  call('SET', 'arq:in-progress:' .. arq, token, 'PX', lease_ms)
  return true
end

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
function Arq.leave(queue, arq)
  call('HDEL', P .. 'arq:' .. queue, arq)
  call('PEXPIRE', 'arq:job:' .. arq, ARQ_JOB_MS)
end

-- The job ends. Its worker gives the result for arq's readers (`for_arq`); if no worker was asked (a job that waited was
-- cancelled, the last of its workers died), one that can write such a result is told to.
function Arq.finish(rec, state, data)
  local queue = call('HGET', rec.key, 'arqq')
  local given = rec.for_arq
  if given then return Arq.clear(queue, rec.arq, given.body, given.ttl_ms, given.hold_ms) end
  Arq.give_back(rec)
  if call('ZSCORE', queue, rec.arq) then
    local why = data.error and data.error.message or data.reason or ''
    call('HSET', P .. 'arq-ended:' .. queue, rec.arq, cjson.encode({id = rec.id, state = state, why = why}))
  else
    Arq.leave(queue, rec.arq)
  end
end

-- A worker of arq's own has the job, or had it: its record here is deleted, as if it had never been taken, and is made again if
-- that worker defers it. A job that was taken out of arq's queue by hand is cancelled: arq's own worker would delete the payload.
function Arq.disown(rec)
  local queue = call('HGET', rec.key, 'arqq')
  local is_theirs = call('ZSCORE', queue, rec.arq) or call('EXISTS', 'arq:job:' .. rec.arq) == 0
  Arq.leave(queue, rec.arq)
  if is_theirs then
    Queue.leave(rec)
    Records.emit(rec, 'deleted', {reason = "a worker of arq's own has it"}, {})
    Records.forget(rec.id)
    call('ZREM', P .. 'state:' .. rec.state, rec.id)
    if rec.terms then Limits.pump() end
    return
  end
  rec.arq = nil
  Lifecycle.conclude(rec, 'cancelled', {reason = "it was taken out of arq's queue"}, {}, Records.kept_ms(rec, 3600000))
end
