-- Batches: the jobs of one map or sweep, counted by the calls that change their states.
--
-- `batch:{id}` (hash) is the record: `spec` (JSON text of its definition), `us` (time of its first submit), numbers of jobs by
-- state, `last` (that of its newest job), `until` (time at which the last of its ended jobs expires), `came` (submits so far), `n` (new jobs of these), `deleted` (those of them that were deleted), `first` and `ended` (time of
-- the first start, and of the last end while no job is open), `rule` (words), `stop` ("failed 3": when the rest is cancelled) and
-- `stopped` (the job for which the rule held; the job that leads the batch, if one does). `batch-jobs:{id}` (sorted
-- set) are its jobs by place, among them jobs of others that do the same work; `batches` (sorted set) all batches by `last`,
-- and `batches-open` those with open jobs, by the time of the last look at them; `batched` (sorted set) all jobs of all batches by
-- `us`, as they are in `jobs`.
-- The record of a job names its batch in the field `batch`, which other jobs do not have.
--
-- A call collects what it changes in a batch, and writes it once (see `flush`): many jobs cost as much as one.

local STALE_LOOKED_AT = 10
local OPEN_LOOKED_AT, LOOK_EVERY_MS = 5, 5000
local SOME_LEAST = 10 -- jobs of a batch that a call looks at, even if it has moved many others

-- Fields of the record that calls need which only start jobs, which only move or end them, and others.
local STARTS = {'us', 'first', 'queued', 'running'}
local MOVES = {'us', 'stop', 'stopped', 'until', 'scheduled', 'queued', 'running'}
local ALL = {'us', 'first', 'n', 'deleted', 'came', 'ended', 'recount', 'stop', 'stopped', 'until', 'scheduled', 'queued',
  'running'}
for i = 1, #ENDS do MOVES[#MOVES + 1], ALL[#ALL + 1] = ENDS[i], ENDS[i] end

local function key_of(batch) return P .. 'batch:' .. batch end

local function jobs_of(batch) return P .. 'batch-jobs:' .. batch end

local function forget(batch)
  call('DEL', key_of(batch), jobs_of(batch))
  call('ZREM', P .. 'batches', batch)
  call('ZREM', P .. 'batches-open', batch)
end

-- Whether no job of a batch is left. Mostly its last one is.
local function is_stale(batch)
  local key = jobs_of(batch)
  local last = call('ZRANGE', key, -1, -1)[1]
  return not (last and call('ZSCORE', P .. 'jobs', last)) and call('ZINTERCARD', 2, key, P .. 'jobs', 'LIMIT', 1) == 0
end

-- Batches that expired and are still listed, or whose last job was deleted while others had expired: the oldest ones are looked
-- at, and some others.
local function drop_stale()
  local key = P .. 'batches'
  for _, ids in ipairs({call('ZRANGE', key, 0, STALE_LOOKED_AT - 1), call('ZRANDMEMBER', key, STALE_LOOKED_AT)}) do
    for _, id in ipairs(ids) do
      if is_stale(id) then forget(id) end
    end
  end
end

-- What this call changes in a batch: `counts` by state, whether it `starts` or otherwise `moves` jobs, `new` jobs, `gone` ones, `ended`
-- ones by state, `events` for its subscribers. `goes_on`: it has new jobs. `ttl_ms`: how long to keep it from now on if no job is open.
local function entry_of(batch)
  changed = changed or {}
  local change = changed[batch]
  if not change then
    change = {counts = {}, new = 0, events = {}}
    changed[batch] = change
  end
  return change
end

-- The same for a call that changes more than it tells.
local function of(batch)
  local change = entry_of(batch)
  change.is_written = true
  return change
end

local function add(change, state, n)
  change.counts[state] = (change.counts[state] or 0) + n
end

local function keep_for(change, ttl_ms)
  change.ttl_ms = math.max(change.ttl_ms or 0, ttl_ms)
end

-- Subscribers read its jobs again.
local function tell_news(batch)
  Batches.tell(batch, Records.event('batch ' .. batch, 1, 'logged', '{}'))
end

-- One event costs as much as the question whether anybody listens.
local function publish(batch, events)
  local channel = P .. 'ch:batch ' .. batch
  if #events > 1 and call('PUBSUB', 'NUMSUB', channel)[2] == 0 then return end
  for _, event in ipairs(events) do call('PUBLISH', channel, event) end
end

-- How many jobs in which state stop the batch: "failed 3".
local function limit_of(stop)
  local state, count = string.match(stop or '', '^(%a+) (%d+)$')
  return state, tonumber(count)
end

-- The fields of the record that a change needs, by name.
local function kept_of(key, change)
  local is_more = change.goes_on or change.gone or change.came or (change.starts and change.moves)
  local fields, kept = is_more and ALL or change.starts and STARTS or MOVES, {}
  local found = call('HMGET', key, unpack(fields))
  for i, field in ipairs(fields) do kept[field] = found[i] end
  return kept
end

-- Writes what a call has changed in a batch, and stops or ends the batch if that is due.
local function write(batch, change)
  local key = key_of(batch)
  local kept, set = kept_of(key, change), {}
  local function count(state) return number(kept[state]) + (change.counts[state] or 0) end
  if change.gone then call('ZREM', P .. 'batched', unpack(change.gone)) end
  if not kept.us then return end
  if change.gone then
    local deleted = number(kept.deleted) + #change.gone
    if deleted >= number(kept.n) + change.new then return forget(batch) end
    call('ZREM', jobs_of(batch), unpack(change.gone))
    put(set, 'deleted', deleted)
  end
  for state in pairs(change.counts) do put(set, state, count(state)) end
  if change.starts and not kept.first then put(set, 'first', NOW) end
  if change.new > 0 then put(set, 'n', number(kept.n) + change.new) end
  if change.last then
    put(set, 'last', change.last)
    call('ZADD', P .. 'batches', change.last, batch)
  end
  if change.came and change.came > number(kept.came) then put(set, 'came', change.came) end
  if change.goes_on and (kept.ended or kept.recount) then
    call('HDEL', key, 'ended', 'recount')
    call('PERSIST', key)
    call('PERSIST', jobs_of(batch))
  end
  local until_ms = change.ttl_ms and math.max(number(kept['until']), NOW + change.ttl_ms)
  local is_over = until_ms and count('scheduled') + count('queued') + count('running') <= 0
  if until_ms then put(set, 'until', until_ms) end
  if is_over then put(set, 'ended', NOW) end
  if #set > 0 then call('HSET', key, unpack(set)) end
  if is_over then -- it is kept as long as the last of its jobs
    call('ZREM', P .. 'batches-open', batch)
    call('PEXPIREAT', key, until_ms)
    call('PEXPIREAT', jobs_of(batch), until_ms)
  elseif change.goes_on then
    call('ZADD', P .. 'batches-open', NOW, batch)
  end
  local state, most = limit_of(kept.stop)
  if state and not kept.stopped and count(state) >= most then
    local ids = change.ended and change.ended[state] or {}
    Batches.stop(batch, ids[most - number(kept[state])] or '')
  end
end

local function flush(batch)
  local change = changed and changed[batch]
  if not change then return end
  changed[batch] = nil
  if change.is_written then write(batch, change) end
  publish(batch, change.events)
end

-- Before a call returns.
function Batches.flush()
  while changed and next(changed) do flush((next(changed))) end
end

-- Cancels jobs of a batch whose rule held; not one that another batch shares, or that a user wants all the same.
local function cancel(batch, ids, ttl_ms)
  local job = call('HGET', key_of(batch), 'stopped')
  if not job then return end -- it has another rule since
  local why = job == batch and 'its ' .. tostring(object(call('HGET', key_of(batch), 'spec')).kind) .. ' has ended' or 'stop_when held' .. (job ~= '' and ' for job ' .. job or '')
  for _, id in ipairs(ids) do
    local rec = Records.read(id)
    if rec and rec.batch == batch then Damage.guard(id, Lifecycle.cancel, rec, why, ttl_ms) end
  end
end

-- A part of a batch is submitted: `join` with each of its jobs, its reply and, if it is new, its record; `settle_part` at the end.
-- `batch`: {id, spec, ttl_ms, place (of the first job), rule and stop ("" for none)}.
function Batches.join(batch, id, reply, rec)
  batch.members, batch.made = batch.members or {}, batch.made or {}
  if rec then
    local change = of(batch.id)
    change.new, change.last = change.new + 1, rec.us
    add(change, rec.state, 1)
    change.starts = change.starts or rec.state == 'running'
    put(batch.made, rec.us, id)
    if IS_OVER[rec.state] then keep_for(change, call('PTTL', rec.key)) end
  end
  local kind = type(reply) == 'table' and reply[1]
  if kind ~= 'lacks' then put(batch.members, batch.place, kind == 'is' and reply[2] or id) end -- else it is sent alone
  batch.place = batch.place + 1
end

function Batches.settle_part(batch)
  local key, change = key_of(batch.id), of(batch.id)
  if call('EXISTS', key) == 0 then
    if change.new == 0 then return end -- there is nothing to keep: jobs of others do all of the work
    call('HSET', key, 'spec', batch.spec, 'us', NOW_US)
    if batch.rule ~= '' then call('HSET', key, 'rule', batch.rule, 'stop', batch.stop) end
  end
  if change.new > 0 then call('ZADD', P .. 'batched', unpack(batch.made)) end
  if #batch.members > 0 then call('ZADD', jobs_of(batch.id), 'NX', unpack(batch.members)) end
  change.came, change.goes_on = batch.place, change.new > 0
  tell_news(batch.id)
  flush(batch.id)
  local ids = {}
  for i = 2, #batch.members, 2 do ids[#ids + 1] = batch.members[i] end
  cancel(batch.id, ids, batch.ttl_ms) -- they may have come too late
end

function Batches.is_kept(batch) return call('EXISTS', key_of(batch)) == 1 end

-- A job is submitted alone. If it repeats another one, it takes its place.
function Batches.replace(batch, rec, old)
  local jobs, change = jobs_of(batch), of(batch)
  local place = old and call('ZSCORE', jobs, old)
  local state = place and call('HGET', P .. 'job:' .. old, 'state')
  if state then
    add(change, state, -1)
    call('HDEL', P .. 'job:' .. old, 'batch')
    call('ZREM', P .. 'batched', old)
  else
    change.new = change.new + 1
  end
  if place then call('ZREM', jobs, old) end
  call('ZADD', jobs, place or (tonumber(call('ZRANGE', jobs, -1, -1, 'WITHSCORES')[2]) or -1) + 1, rec.id)
  call('ZADD', P .. 'batched', rec.us, rec.id)
  add(change, rec.state, 1)
  change.starts = change.starts or rec.state == 'running'
  change.last, change.goes_on = rec.us, true
  if IS_OVER[rec.state] then keep_for(change, call('PTTL', rec.key)) end
  tell_news(batch)
end

-- With each change of a job's state.
function Batches.count(batch, from, to)
  local change = of(batch)
  add(change, from, -1)
  add(change, to, 1)
  if to == 'running' then change.starts = true else change.moves = true end
end

-- With the end of a job, which is kept for `ttl_ms`.
function Batches.ended(rec, state, ttl_ms)
  local change = of(rec.batch)
  change.ended = change.ended or {}
  change.ended[state] = change.ended[state] or {}
  table.insert(change.ended[state], rec.id)
  keep_for(change, ttl_ms)
end

-- With each event of a job.
function Batches.tell(batch, event)
  table.insert(entry_of(batch).events, event)
end

-- Its rule held for a job: the rest is cancelled.
function Batches.stop(batch, job)
  call('HSETNX', key_of(batch), 'stopped', job)
  Leftover.keep('batch', batch, 0)
end

-- The jobs of a batch from a place on, as many as this call may look at, and the place to go on from, nil at the end. Jobs
-- may leave in between, and two may share a place.
local function some_of(batch, from)
  local most = math.max(SOME_LEAST, STEPS_MOST - steps)
  local found = call('ZRANGEBYSCORE', jobs_of(batch), from, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
  local ids, behind = {}, #found == 2 * most and found[2] ~= found[#found] and found[#found] or nil
  for i = 1, #found, 2 do
    if found[i + 1] ~= behind then ids[#ids + 1] = found[i] end
  end
  steps = steps + #ids
  return ids, behind
end

-- Cancels open jobs, from a place on.
function Batches.cancel_rest(batch, ttl_ms, from)
  local ids, behind = some_of(batch, from)
  cancel(batch, ids, ttl_ms)
  if behind then Leftover.keep('batch', batch, behind) end
end

-- Puts a batch back that was exported: `record` are its fields, nil for further `members` (place, id, ...), which have ended and are
-- of no batch here. It is kept as long as the last of them.
function Batches.restore(batch, record, members)
  local key, jobs = key_of(batch), jobs_of(batch)
  if record then
    if call('EXISTS', key) == 1 then return 0 end
    for name, value in pairs(record) do call('HSET', key, name, value) end
    call('ZADD', P .. 'batches', record.last or record.us, batch)
  end
  local until_ms = number(call('HGET', key, 'until'))
  for i = 1, #members, 2 do
    local id = members[i + 1]
    local job = P .. 'job:' .. id
    local rec = call('HMGET', job, 'us', 'batch')
    if rec[1] and not rec[2] then
      call('HSET', job, 'batch', batch)
      call('ZADD', P .. 'batched', rec[1], id)
      call('ZADD', jobs, members[i], id)
      until_ms = math.max(until_ms, call('PEXPIRETIME', job))
    end
  end
  call('HSET', key, 'until', until_ms)
  call('PEXPIREAT', key, until_ms)
  call('PEXPIREAT', jobs, until_ms)
  tell_news(batch)
  return 1
end

-- Gives a batch a rule. The jobs that have ended count, too.
function Batches.rule(batch, words, stop)
  local key = key_of(batch)
  if call('EXISTS', key) == 0 then return 0 end
  call('HSET', key, 'rule', words, 'stop', stop)
  call('HDEL', key, 'stopped')
  of(batch) -- which has no change, and is checked
  return 1
end

-- A job is deleted; with the last one goes the batch.
function Batches.leave(batch, id)
  local change = of(batch)
  change.gone = change.gone or {}
  table.insert(change.gone, id)
end

-- No job of a batch is open, and yet some are counted as open: damaged data have hidden an end. `found`: numbers of jobs by
-- state. Deleted jobs stay counted as what they were.
local function correct(batch, found, ttl_ms)
  local key = key_of(batch)
  for _, state in ipairs({'scheduled', 'queued', 'running'}) do call('HSET', key, state, 0) end
  for state in pairs(IS_OVER) do
    if (found[state] or 0) > number(call('HGET', key, state)) then call('HSET', key, state, found[state]) end
  end
  keep_for(of(batch), ttl_ms)
  tell_news(batch)
end

-- Looks at jobs of a batch from a place on, as far as this call may, and ends at an open one.
function Batches.recount(batch, ttl_ms, from)
  flush(batch)
  local key = key_of(batch)
  local kept = from > 0 and call('HGET', key, 'recount')
  if from > 0 and not kept then return end -- it has other jobs now
  local ids, behind = some_of(batch, from)
  local found = kept and object(kept) or {}
  for _, id in ipairs(ids) do
    local rec = try('HMGET', P .. 'job:' .. id, 'state', 'batch')
    if not rec.err and rec[1] and rec[2] == batch then
      if not IS_OVER[rec[1]] then return call('HDEL', key, 'recount') end
      found[rec[1]] = (found[rec[1]] or 0) + 1
    end
  end
  if behind then
    call('HSET', key, 'recount', cjson.encode(found))
    return Leftover.keep('recount', batch, behind)
  end
  if is_stale(batch) then return forget(batch) end
  call('HDEL', key, 'recount')
  correct(batch, found, ttl_ms)
end

-- With each heartbeat: batches without jobs, and those whose numbers may be wrong because of damaged data.
function Batches.look_after(ttl_ms)
  drop_stale()
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
