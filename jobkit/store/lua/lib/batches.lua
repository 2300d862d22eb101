-- Batches: the jobs of one map or sweep, counted by the calls that change their states.
--
-- `batch:{id}` (hash) is the record: `spec` (JSON text of its definition), `us` (time of its first submit), numbers of jobs by
-- state, `last` (that of its newest job), `came` (submits so far), `n` (new jobs of these), `deleted` (those of them that were deleted), `first` and `ended` (time of
-- the first start, and of the last end while no job is open), `rule` (words), `stop` ("failed 3": when the rest is cancelled) and
-- `stopped` (the job for which the rule held). `batch-jobs:{id}` (sorted
-- set) are its jobs by place, among them jobs of others that do the same work; `batches` (sorted set) all batches by `us`,
-- and `batches-open` those with open jobs, by the time of the last look at them.
-- The record of a job names its batch in the field `batch`, which other jobs do not have.

local STALE_LOOKED_AT = 20
local OPEN_LOOKED_AT, LOOK_EVERY_MS = 5, 5000

local function key_of(batch) return P .. 'batch:' .. batch end

local function jobs_of(batch) return P .. 'batch-jobs:' .. batch end

local function forget(batch)
  call('DEL', key_of(batch), jobs_of(batch))
  call('ZREM', P .. 'batches', batch)
  call('ZREM', P .. 'batches-open', batch)
end

-- Batches that expired, and are still listed: the oldest ones are looked at. One whose last job an older version has ended does
-- not expire by itself: it goes when none of its jobs is left.
local function drop_stale()
  for _, id in ipairs(call('ZRANGE', P .. 'batches', 0, STALE_LOOKED_AT - 1)) do
    if call('ZINTERCARD', 2, jobs_of(id), P .. 'jobs', 'LIMIT', 1) == 0 then forget(id) end
  end
end

-- While no job is open, the batch is kept as long as the last of its jobs.
local function close(batch, ttl_ms)
  local key = key_of(batch)
  local open = call('HMGET', key, 'scheduled', 'queued', 'running', 'us')
  if not open[4] or number(open[1]) + number(open[2]) + number(open[3]) > 0 then return end
  call('HSET', key, 'ended', NOW)
  call('ZREM', P .. 'batches-open', batch)
  call('PEXPIRE', key, ttl_ms)
  call('PEXPIRE', jobs_of(batch), ttl_ms)
end

-- Stops a batch if enough of its jobs have ended in this state, the last one of them `job` ("" if that is not known).
local function check(batch, state, job)
  local found = call('HMGET', key_of(batch), 'stop', 'stopped', state)
  local wanted, count = string.match(found[1] or '', '^(%a+) (%d+)$')
  if wanted == state and not found[2] and number(found[3]) >= tonumber(count) then Batches.stop(batch, job) end
end

-- One of its jobs is cancelled because of its rule, unless it has another one since; not one that it shares with others.
local function cancel(batch, id, ttl_ms)
  local rec = Records.read(id)
  local job = rec and rec.batch == batch and call('HGET', key_of(batch), 'stopped')
  if not job then return end
  Damage.guard(id, Lifecycle.cancel, rec, 'stop_when held' .. (job ~= '' and ' for job ' .. job or ''), ttl_ms)
end

-- A part of a batch is submitted: `join` with each of its jobs, its reply and, if it is new, its record; `settle_part` at the end.
-- `batch`: {id, spec, ttl_ms, place (of the first job), rule and stop ("" for none)}.
function Batches.join(batch, id, reply, rec)
  batch.n, batch.states, batch.members = batch.n or 0, batch.states or {}, batch.members or {}
  if rec then
    batch.n, batch.last = batch.n + 1, rec.us
    batch.states[rec.state] = (batch.states[rec.state] or 0) + 1
  end
  local kind = type(reply) == 'table' and reply[1]
  if kind ~= 'lacks' then put(batch.members, batch.place, kind == 'is' and reply[2] or id) end -- else it is sent alone
  batch.place = batch.place + 1
end

function Batches.settle_part(batch)
  local key = key_of(batch.id)
  if call('EXISTS', key) == 0 then
    if batch.n == 0 then return end -- there is nothing to keep: jobs of others do all of the work
    drop_stale()
    call('HSET', key, 'spec', batch.spec, 'us', NOW_US)
    if batch.rule ~= '' then call('HSET', key, 'rule', batch.rule, 'stop', batch.stop) end
    call('ZADD', P .. 'batches', NOW_US, batch.id)
  end
  for state, n in pairs(batch.states) do call('HINCRBY', key, state, n) end
  if batch.states.running then call('HSETNX', key, 'first', NOW) end
  if batch.n > 0 then
    call('HINCRBY', key, 'n', batch.n)
    call('HSET', key, 'last', batch.last)
  end
  if batch.place > number(call('HGET', key, 'came')) then call('HSET', key, 'came', batch.place) end
  if #batch.members > 0 then call('ZADD', jobs_of(batch.id), 'NX', unpack(batch.members)) end
  Batches.go_on(batch.id)
  close(batch.id, batch.ttl_ms)
  for state in pairs(batch.states) do check(batch.id, state, '') end
  if call('HEXISTS', key, 'stopped') == 0 then return end
  for i = 2, #batch.members, 2 do cancel(batch.id, batch.members[i], batch.ttl_ms) end -- it came too late
end

-- It has new jobs. Subscribers read its jobs again.
function Batches.go_on(batch)
  call('HDEL', key_of(batch), 'ended', 'recount')
  call('ZADD', P .. 'batches-open', NOW, batch)
  call('PERSIST', key_of(batch))
  call('PERSIST', jobs_of(batch))
  call('PUBLISH', P .. 'ch:batch ' .. batch, Records.event('batch ' .. batch, 1, 'logged', '{}'))
end

function Batches.is_kept(batch) return call('EXISTS', key_of(batch)) == 1 end

-- A job is submitted alone. If it repeats another one, it takes its place.
function Batches.replace(batch, rec, old)
  local key, jobs = key_of(batch), jobs_of(batch)
  local place = old and call('ZSCORE', jobs, old)
  local state = place and call('HGET', P .. 'job:' .. old, 'state')
  if state then
    call('HINCRBY', key, state, -1)
    call('HDEL', P .. 'job:' .. old, 'batch')
  else
    call('HINCRBY', key, 'n', 1)
  end
  if place then call('ZREM', jobs, old) end
  call('ZADD', jobs, place or (tonumber(call('ZRANGE', jobs, -1, -1, 'WITHSCORES')[2]) or -1) + 1, rec.id)
  call('HINCRBY', key, rec.state, 1)
  call('HSET', key, 'last', rec.us)
  Batches.go_on(batch)
end

-- With each change of a job's state.
function Batches.count(batch, from, to)
  local key = key_of(batch)
  if call('EXISTS', key) == 0 then return end
  call('HINCRBY', key, from, -1)
  call('HINCRBY', key, to, 1)
  if to == 'running' then call('HSETNX', key, 'first', NOW) end
end

-- With the end of a job, which is kept for `ttl_ms`.
function Batches.ended(rec, state, ttl_ms)
  close(rec.batch, ttl_ms)
  check(rec.batch, state, rec.id)
end

-- Its rule held for a job: the rest is cancelled.
function Batches.stop(batch, job)
  call('HSETNX', key_of(batch), 'stopped', job)
  Leftover.keep('batch', batch, 0)
end

-- Cancels open jobs, from the one numbered `from` on.
function Batches.cancel_rest(batch, ttl_ms, from)
  local most = math.max(1, STEPS_MOST - steps)
  local ids = call('ZRANGE', jobs_of(batch), from, from + most - 1)
  steps = steps + #ids
  for _, id in ipairs(ids) do cancel(batch, id, ttl_ms) end
  if #ids == most then Leftover.keep('batch', batch, from + most) end
end

-- Gives a batch a rule. The jobs that have ended count, too.
function Batches.rule(batch, words, stop)
  local key = key_of(batch)
  if call('EXISTS', key) == 0 then return 0 end
  call('HSET', key, 'rule', words, 'stop', stop)
  call('HDEL', key, 'stopped')
  for state in pairs(IS_OVER) do check(batch, state, '') end
  return 1
end

-- A job is deleted; with the last one goes the batch.
function Batches.leave(batch, id)
  local key = key_of(batch)
  if call('EXISTS', key) == 0 then return end
  call('ZREM', jobs_of(batch), id)
  if call('HINCRBY', key, 'deleted', 1) >= number(call('HGET', key, 'n')) then forget(batch) end
end

-- No job of a batch is open, and yet some are counted as open: an older version has ended them. `found`: numbers of jobs by
-- state. Deleted jobs stay counted as what they were; those that an older version has ended and deleted count as nothing.
local function correct(batch, found, ttl_ms)
  local key = key_of(batch)
  for _, state in ipairs({'scheduled', 'queued', 'running'}) do call('HSET', key, state, 0) end
  for state in pairs(IS_OVER) do
    if (found[state] or 0) > number(call('HGET', key, state)) then call('HSET', key, state, found[state]) end
  end
  close(batch, ttl_ms)
  call('PUBLISH', P .. 'ch:batch ' .. batch, Records.event('batch ' .. batch, 1, 'logged', '{}'))
end

-- Looks at jobs of a batch from the one numbered `from` on, as far as this call may, and ends at an open one.
function Batches.recount(batch, ttl_ms, from)
  local key = key_of(batch)
  local most = math.max(1, STEPS_MOST - steps)
  local ids = call('ZRANGE', jobs_of(batch), from, from + most - 1)
  steps = steps + #ids
  local kept = from > 0 and call('HGET', key, 'recount')
  if from > 0 and not kept then return end -- it has other jobs now
  local found = kept and object(kept) or {}
  for _, id in ipairs(ids) do
    local rec = try('HMGET', P .. 'job:' .. id, 'state', 'batch')
    if not rec.err and rec[1] and rec[2] == batch then
      if not IS_OVER[rec[1]] then return call('HDEL', key, 'recount') end
      found[rec[1]] = (found[rec[1]] or 0) + 1
    end
  end
  if #ids == most then
    call('HSET', key, 'recount', cjson.encode(found))
    return Leftover.keep('recount', batch, from + most)
  end
  call('HDEL', key, 'recount')
  correct(batch, found, ttl_ms)
end

-- With each heartbeat: batches whose jobs an older version may have ended.
function Batches.look_after(ttl_ms)
  local ids = call('ZRANGEBYSCORE', P .. 'batches-open', '-inf', NOW - LOOK_EVERY_MS, 'LIMIT', 0, OPEN_LOOKED_AT)
  for _, id in ipairs(ids) do
    call('ZADD', P .. 'batches-open', NOW, id)
    if call('EXISTS', key_of(id)) == 0 then
      call('ZREM', P .. 'batches-open', id)
    elseif not call('ZSCORE', P .. 'left', 'recount ' .. id) then
      Batches.recount(id, ttl_ms, 0)
    end
  end
end
