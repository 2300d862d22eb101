
-- Jobs that came by arq's own client: a record of ours, and beside it arq's own keys, which its readers (`Job.status`,
-- `Job.result`) and its own workers go by. Put behind head.lua in every script, since each of them may move such a job.
--
-- `rec.arq` is its id there, the record's `arqq` the key of arq's queue. A live job stays a member of that queue, for
-- `Job.result` waits as long as it is one. While an attempt runs, arq's in-progress key holds its token, as long as its
-- lease. `arq:{queue}` (hash) knows which members have a record here, and which one.

local ARQ_RETRY_S, ARQ_JOB_MS = 88400, 86400000 -- arq's own

-- Before a start. False where the job is not in arq's queue any more, or a worker of arq's own runs it right now.
arq_take = function(rec, lease_ms)
  local more = redis.call('HMGET', P .. 'job:' .. rec.id, 'arqq', 'arqt')
  if not redis.call('ZSCORE', more[1], rec.arq) then return false end
  if not redis.call('SET', 'arq:in-progress:' .. rec.arq, rec.token, 'NX', 'PX', lease_ms) then return false end
  redis.call('SET', 'arq:retry:' .. rec.arq, tonumber(more[2] or 0) + rec.retried + 1, 'EX', ARQ_RETRY_S)
  return true
end

-- The attempt is over and the job is not: it may be started again, from `due` on where that is given.
arq_return = function(rec, due)
  local held = 'arq:in-progress:' .. rec.arq
  if redis.call('GET', held) == rec.token then redis.call('DEL', held) end
  redis.call('DEL', P .. 'arq-result:' .. rec.id)
  if due then redis.call('ZADD', redis.call('HGET', P .. 'job:' .. rec.id, 'arqq'), 'XX', due, rec.arq) end
end

-- With each heartbeat. False where a worker of arq's own has it by now: our lease had lapsed.
local function arq_renew(arq, token, lease_ms)
  local held = redis.call('GET', 'arq:in-progress:' .. arq)
  if held and held ~= token then return false end
  redis.call('SET', 'arq:in-progress:' .. arq, token, 'PX', lease_ms)
  return true
end

-- Nothing of arq's but `result` stays, for `ttl_ms` (0: none, below: for ever). `hold_ms` keeps the id in progress for
-- so long, which is how arq keeps a cron job from being run twice by workers whose clocks differ.
local function arq_clear(queue, arq, result, ttl_ms, hold_ms)
  if ttl_ms > 0 then
    redis.call('SET', 'arq:result:' .. arq, result, 'PX', ttl_ms)
  elseif ttl_ms < 0 then
    redis.call('SET', 'arq:result:' .. arq, result)
  end
  redis.call('DEL', 'arq:job:' .. arq, 'arq:retry:' .. arq)
  if hold_ms > 0 then
    redis.call('SET', 'arq:in-progress:' .. arq, '1', 'PX', hold_ms)
  else
    redis.call('DEL', 'arq:in-progress:' .. arq)
  end
  redis.call('ZREM', queue, arq)
  redis.call('ZREM', 'arq:abort', arq)
  redis.call('HDEL', P .. 'arq:' .. queue, arq)
  redis.call('HDEL', P .. 'arq-ended:' .. queue, arq)
end

-- The job is none of ours any more: arq's payload, which we keep without a limit, gets one again.
local function arq_leave(queue, arq)
  redis.call('HDEL', P .. 'arq:' .. queue, arq)
  redis.call('PEXPIRE', 'arq:job:' .. arq, ARQ_JOB_MS)
end

-- The job ends. Its worker has left the result for arq's readers; where no worker was asked (a job that waited was
-- cancelled, the last of its workers died), one that can write such a result is told to.
arq_end = function(rec, state, data)
  local queue = redis.call('HGET', P .. 'job:' .. rec.id, 'arqq')
  local staged = rec.state == 'running' and redis.call('GET', P .. 'arq-result:' .. rec.id)
  if staged then
    redis.call('DEL', P .. 'arq-result:' .. rec.id)
    local _, last, ttl_ms, hold_ms = string.find(staged, '^(%-?%d+) (%d+)\n')
    arq_clear(queue, rec.arq, string.sub(staged, last + 1), tonumber(ttl_ms), tonumber(hold_ms))
    return
  end
  arq_return(rec)
  if redis.call('ZSCORE', queue, rec.arq) then
    local why = data.error and data.error.message or data.reason or ''
    redis.call('HSET', P .. 'arq-ended:' .. queue, rec.arq, cjson.encode({id = rec.id, state = state, why = why}))
  else
    arq_leave(queue, rec.arq)
  end
end

-- Somebody took the job out of arq's queue, or arq's own worker has it.
disown = function(rec)
  local queue = redis.call('HGET', P .. 'job:' .. rec.id, 'arqq')
  local why = redis.call('ZSCORE', queue, rec.arq) and "a worker of arq's own runs it" or "it was taken out of arq's queue"
  arq_leave(queue, rec.arq)
  rec.arq = nil
  conclude(rec, 'cancelled', 'cancelled', {reason = why}, {}, kept_ms(rec, 3600000))
end
