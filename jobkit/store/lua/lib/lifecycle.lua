-- The life of a job: submitted, cancelled, lost, ended.

-- A job ends as lost after so many times `max_losses` at the latest: without a step forward, whatever was lost with it, and in
-- all, however often it has moved on.
local LOST_MOST, LOST_IN_ALL = 4, 40

-- Lost jobs that a worker's record lists.
local LOST_LISTED = 20

-- True if the record's own fields tell everything about a successful end.
local IN_RECORD = {state = true, finished = true, summary = true, usage = true}
local function is_implied(rec, state, data)
  if state ~= 'succeeded' or rec.attempt ~= 1 then return false end
  for name in pairs(data) do
    if not IN_RECORD[name] then return false end
  end
  return true
end

-- The end of a job's life: out of every queue, kept for `ttl_ms`. Those that wait for its result go on, or end as well.
function Lifecycle.conclude(rec, state, data, set, ttl_ms, rider)
  Queue.leave(rec)
  if rec.waits then Followers.leave(rec) end
  Records.move(rec, state)
  data.state, data.finished = state, NOW
  put(set, 'state', state)
  put(set, 'finished', NOW)
  Records.emit(rec, state, data, set, rider, is_implied(rec, state, data))
  call('ZADD', P .. 'expiry', NOW + ttl_ms, rec.id)
  if rec.batch then Batches.ended(rec, state, ttl_ms) end
  call('PEXPIRE', rec.key, ttl_ms)
  call('PEXPIRE', P .. 'args:' .. rec.id, ttl_ms)
  if rec.logn then call('PEXPIRE', P .. 'log:' .. rec.id, ttl_ms) end
  if rec.kept then
    for _, kind in ipairs(Records.KEPT) do call('PEXPIRE', P .. kind .. ':' .. rec.id, ttl_ms) end
  end
  reached('ended', rec, state, data, ttl_ms)
  if rec.uses then reached_by_user('ended', rec, state, data, ttl_ms) end
  if rec.after then Followers.settle(rec.id, ttl_ms) end
  if rec.terms then
    Dedup.ended(rec, state, ttl_ms, data.cached)
    Limits.pump()
  end
end

-- A waiting job is cancelled here and now; the worker of a running one is told, perhaps to let it stop gently: at a safe point.
function Lifecycle.cancel(rec, reason, ttl_ms, gently, by)
  if rec.state == 'queued' or rec.state == 'scheduled' then
    Lifecycle.conclude(rec, 'cancelled', {reason = reason, by = by}, {}, Records.kept_ms(rec, ttl_ms))
  elseif rec.state == 'running' then
    if not rec.cancel then
      if gently then call('HSET', rec.key, 'gently', 1) end
      Records.emit(rec, 'cancel_requested', {cancel = NOW, reason = reason, by = by}, {'cancel', NOW})
    elseif gently then
      return -- it was asked before, perhaps for less patience
    else
      call('HDEL', rec.key, 'gently')
    end
    call('PUBLISH', P .. 'inbox:' .. rec.worker, (gently and 'A' or 'C') .. rec.id)
  end
end

-- How a job lost its workers, a line for each; `last` is not among its events yet.
local function deaths(rec, last)
  local found = {}
  for seq = math.max(1, rec.seq - 1000), rec.seq do
    local kept = call('HGET', rec.key, 'e' .. seq)
    local event = kept and object(kept)
    if event and event.type == 'lost' and type(event.data) == 'table' then found[#found + 1] = tostring(event.data.reason) end
  end
  found[#found + 1] = last
  return table.concat(found, '\n')
end

-- An attempt is over and the job is not: back to its line, at the place of a job that has waited since then, or to wait for
-- `delay_ms`. `data` and `set` say what else the event carries and what else changes.
function Lifecycle.go_back(rec, kind, data, set, since_us, delay_ms)
  local due = delay_ms > 0 and NOW + delay_ms or nil
  data.state, data.due = due and 'scheduled' or 'queued', due
  put(set, 'state', data.state)
  put(set, 'token', '')
  if due then put(set, 'due', due) end
  if rec.uses then reached_by_user('back', rec, due) end
  Queue.leave(rec)
  Records.move(rec, data.state)
  Records.emit(rec, kind, data, set)
  Queue.line_up(rec, due, since_us)
  if rec.terms then Limits.pump() end
end

-- How far a job is, as text which is equal for equal steps, and the same for people; nil if that is not known.
local function step_of(rec)
  for _, act in ipairs(rec.kept and moments.step or {}) do
    local step, shown = act(rec)
    if step then return step, shown end
  end
end

-- A lease ran out: the worker died, or was away for too long. Or the worker says so itself: what it ran the attempt in died
-- under it. `where` says how. The job goes back to its old place in the line, or ends here. A loss counts against it only if
-- nothing else was lost with it (`is_alone`). After `max_losses` others it is a suspect: its next worker runs nothing else
-- (see `claim`), so that there is no doubt whose fault its death is. Only losses since it was at another step count: a job that goes on between them is no cause of them. The record's `lost_at` is the step of the last loss,
-- `lost_before` the number of those before that step.
function Lifecycle.lose(rec, max_losses, ttl_ms, is_alone, where, usage)
  local step, shown = step_of(rec)
  local last_step, before = unpack(call('HMGET', rec.key, 'lost_at', 'lost_before'))
  before = number(before)
  if step and step ~= last_step then before, rec.alone = rec.losses, 0 end
  rec.losses = rec.losses + 1
  rec.alone = rec.alone + (is_alone and 1 or 0)
  local since = rec.losses - before
  ttl_ms = Records.kept_ms(rec, ttl_ms)
  local is_stuck = rec.alone >= max_losses or since >= LOST_MOST * max_losses
  local is_spent = is_stuck or rec.losses >= LOST_IN_ALL * max_losses
  if rec.cancel then
    Lifecycle.conclude(rec, 'cancelled', {losses = rec.losses, reason = 'cancelled; its ' .. where, usage = usage},
      {'losses', rec.losses, 'token', ''}, ttl_ms)
  elseif is_spent or Records.wish(rec, 'on_lost') == 'fail' then
    local is_deadly = rec.alone < since and rec.alone >= max_losses
    local how = (is_deadly and rec.alone or is_stuck and since or rec.losses) .. ' times while running it'
      .. (is_deadly and ' alone' or '') .. (is_stuck and step and ', each time after ' .. shown or '')
    local err = {kind = 'lost', type = 'lost', traceback = deaths(rec, where), where = '',
      message = is_spent and 'its workers died ' .. how .. '; last, ' .. where
        or where .. "; it is not run again, since it was submitted with on_lost='fail'"}
    Lifecycle.conclude(rec, 'failed', {losses = rec.losses, error = err, usage = usage},
      {'losses', rec.losses, 'token', '', 'error', cjson.encode(err)}, ttl_ms)
  else
    local set = {'losses', rec.losses, 'alone', rec.alone}
    if step then
      put(set, 'lost_at', step)
      put(set, 'lost_before', before)
    end
    rec.suspect = since - rec.alone >= max_losses
    if rec.suspect then put(set, 'suspect', 1) else call('HDEL', rec.key, 'suspect') end
    Lifecycle.go_back(rec, 'lost', {losses = rec.losses, reason = where, usage = usage}, set, rec.us, 0)
  end
end

-- When any worker was last heard of.
function Lifecycle.last_beat()
  return tonumber(call('ZRANGE', P .. 'workers', -1, -1, 'WITHSCORES')[2])
end

-- If no worker could write until leases of live workers may be over (a machine that slept, a server that was frozen, full
-- or cut off), they get time to renew before any job counts as lost. A lease may be a beat old when the
-- silence begins, so two thirds of one are long enough; less than 5.5 s is a busy machine. Returns when that time is
-- over, or 0.
local function waits_until(beat, lease_ms)
  local until_ms = number(call('GET', P .. 'grace'))
  if until_ms > NOW then return until_ms end
  if not beat or NOW - beat <= math.min(lease_ms + 5000, math.max(5500, lease_ms * 2 / 3)) then return 0 end
  local grace_ms = math.floor(lease_ms / 2) + 1000 -- a worker beats at least twice in a lease
  call('SET', P .. 'grace', NOW + grace_ms, 'PX', grace_ms)
  call('ZADD', P .. 'workers', 'XX', NOW, call('ZRANGE', P .. 'workers', -1, -1)[1]) -- once for each silence
  return NOW + grace_ms
end

-- Which of these jobs, whose leases are over, were the only ones of their workers. The leases of a dead worker end one after
-- the other, before those of the living: what it ran beside them is the next to end, or was lost a moment ago.
local function find_alone(lost, lease_ms)
  local running, is_alone = {}, {}
  for _, id in ipairs(#lost > 0 and call('ZRANGE', P .. 'leases', 0, 999) or {}) do
    local worker = try('HGET', P .. 'job:' .. id, 'worker')
    if type(worker) == 'string' then running[worker] = (running[worker] or 0) + 1 end
  end
  for _, rec in ipairs(lost) do
    local key = P .. 'died:' .. rec.worker
    is_alone[rec] = running[rec.worker] == 1 and (call('GET', key) or rec.id) == rec.id
    call('SET', key, is_alone[rec] and rec.id or '', 'PX', 2 * lease_ms)
  end
  return is_alone
end

-- Keeps with a worker's record which jobs were lost since its last heartbeat, in lines: that heartbeat, then "attempt:id" of each.
local function note_loss(rec)
  local key = P .. 'worker:' .. rec.worker
  local beat, known = unpack(try('HMGET', key, 'beat', 'lost'))
  if not beat then return end
  if string.match(known or '', '^[^\n]+') ~= beat then known = beat end
  local _, count = string.gsub(known, '\n', '')
  if count < LOST_LISTED then
    call('HSET', key, 'lost', known .. '\n' .. rec.attempt .. ':' .. rec.id)
  end
end

-- Queues jobs whose lease is over. When Redis itself has only just come back, or all workers have, they get time to renew
-- first. Returns true if leases were over, and the moment when that time is over (no call before it can do more), else 0; or
-- false and the moment when the next lease ends, if there is one.
function Lifecycle.recover(limit, lease_ms, max_losses, ttl_ms, beat)
  local next_end = tonumber(call('ZRANGE', P .. 'leases', 0, 0, 'WITHSCORES')[2])
  if not next_end or next_end > NOW then return false, next_end end
  local ids = next_end == 0 and call('ZRANGEBYSCORE', P .. 'leases', 0, 0, 'LIMIT', 0, limit) -- of dead workers, see `died`
  local again, uptime = 0, math.huge
  if not ids then
    ids = call('ZRANGEBYSCORE', P .. 'leases', '-inf', NOW, 'LIMIT', 0, limit)
    again = waits_until(beat or Lifecycle.last_beat(), lease_ms)
    if again > 0 then return true, again end
    uptime = tonumber(string.match(call('INFO', 'server'), 'uptime_in_seconds:(%d+)'))
  end
  if uptime * 1000 < 2 * lease_ms + 2000 then
    -- An uptime that young is normal for a fresh server too; only a lease older than the server can be a victim.
    -- Redis counts whole seconds from the whole second in which it started: that moment is the earliest it may be.
    local born = (math.floor(NOW / 1000) - uptime) * 1000
    local young = {}
    for _, id in ipairs(ids) do
      local started = number(call('HGET', P .. 'job:' .. id, 'started'))
      if started > born then young[#young + 1] = id else again = NOW - uptime * 1000 + 2 * lease_ms + 2000 end
    end
    ids = young
  end
  local lost = {}
  for _, id in ipairs(ids) do
    local rec = Records.read(id)
    if rec and rec.state == 'running' then
      lost[#lost + 1] = rec
      -- It may only be frozen, and then still has a channel: it would be given this very job again.
      local known = call('HMGET', P .. 'worker:' .. rec.worker, 'queues', 'draining')
      Queue.unregister(rec.worker, known[1])
      rec.is_stopped = not known[1] or known[2] == '1'
    else
      call('ZREM', P .. 'leases', id)
    end
  end
  local is_alone = find_alone(lost, lease_ms)
  for _, rec in ipairs(lost) do
    local how = rec.is_stopped and ' was stopped, and did not give back attempt '
      or ' died or lost contact while it ran attempt '
    note_loss(rec)
    local where = 'worker ' .. rec.worker .. how .. rec.attempt .. (is_alone[rec] and '' or ', with other jobs')
    Damage.guard(rec.id, Lifecycle.lose, rec, max_losses, ttl_ms, is_alone[rec] and not rec.is_stopped, where)
  end
  return true, again
end

local function has_record(id)
  return call('EXISTS', P .. 'job:' .. id) == 1
end

-- Stores a new job (see `Records.new`) with its first event; returns false if its id is known. `more`: fields beside those of
-- every job.
function Lifecycle.create(rec, due, waits, more)
  local id, us = rec.id, rec.us
  if call('ZADD', P .. 'jobs', 'NX', us, id) == 0 then
    if has_record(id) then return false end
    -- An ended job of this id expired and was not pruned yet. What is left of it must go now, or its entry in `expiry`
    -- would take the new job with it.
    Records.forget(id, rec.blobs)
    call('ZADD', P .. 'jobs', us, id)
  end
  rec.state = (due > NOW or waits) and 'scheduled' or 'queued'
  local set = {'state', rec.state, 'spec', rec.spec, 'queue', rec.queue, 'us', us, 'submitted', NOW, unpack(more)}
  local data = '{"state":"' .. rec.state .. '","submitted":' .. NOW
  if due > NOW then
    put(set, 'due', due)
    data = data .. ',"due":' .. due
  end
  if rec.queue ~= known_queue then call('SADD', P .. 'queues', rec.queue) end
  known_queue = rec.queue
  call('SET', P .. 'args:' .. id, rec.payload)
  call('ZADD', P .. 'state:' .. rec.state, us, id)
  Records.emit(rec, 'submitted', data .. '}', set, nil, rec.state == 'queued')
  reached('created', rec)
  return true
end

-- A job waits for what it needs, else for its time.
local function await_or_line_up(rec, needs, many, due, ...)
  if needs then return Followers.await(rec, needs) end
  if many then return Followers.await_many(rec, many) end
  Queue.line_up(rec, due, ...)
end

-- Stores the job from args[i] on: see `submit`.
local function submit_one(client, args, i, batch)
  local id, spec, payload, queue = args[i], args[i + 1], args[i + 2], args[i + 3]
  local options = args[i + 4] ~= '' and cjson.decode(args[i + 4]) or {}
  local terms, priority, needs, many = options.terms, options.priority or 0, options.needs, options.many
  local blobs = options.blobs
  local lack = blobs and Blobs.lacking(blobs)
  if lack then return {'lacks', lack} end
  local due = math.max(NOW + (options.delay_ms or 0), options.at_ms or 0)
  local known, other
  if terms then known, other = Dedup.find(object(terms), id, has_record(id)) end
  if known then
    if other then
      Dedup.replace(other, spec, payload, queue, priority, due, terms, blobs)
      await_or_line_up(other, needs, many, due)
    end
    return known
  end
  if other then due, needs, many = NOW, nil, nil end
  local more = {}
  if client ~= '' then put(more, 'client', client) end
  if priority ~= 0 then put(more, 'priority', priority) end
  if terms then put(more, 'terms', terms) end
  local home = batch and batch.id or options.batch and Batches.is_kept(options.batch) and options.batch
  if home then put(more, 'batch', home) end
  local rec = Records.new(id, spec, payload, queue, priority, terms)
  rec.blobs = blobs
  if not Lifecycle.create(rec, due, needs or many, more) then return 0 end
  if blobs then Blobs.use(id, blobs) end
  rec.client = client -- not before: the reply tells the submitter as much as the first event
  if string.find(spec, '"retry_of":', 1, true) then Records.run_again(object(spec).retry_of, id) end
  if terms then Dedup.submitted(rec) end
  if other then
    Dedup.end_as(rec, other)
  else -- jobs of one call and one due time keep their order by the fraction of a millisecond
    await_or_line_up(rec, needs, many, due + math.min(rec.us - NOW_US, 2000) / 2048, rec.us, true)
  end
  if home and not batch then Batches.replace(home, rec, object(spec).retry_of) end
  return other and {'is', id} or NOW, rec
end

-- Stores jobs once each. `client` is the channel of their submitter. From args[start] on, for each job: id, spec, payload,
-- queue, and "" or {priority, delay_ms, at_ms, needs (ids of the jobs whose results are arguments of this one, each once), many
-- (instead, if they are many: the ids, separated by commas), blobs (names of large parts), terms (JSON text of what Limits
-- and Dedup look at), batch (id of its batch if it is not sent as a part of it)}.
-- Returns the time of the submit (ms) for each new job, 0 if the id was known; nothing changes then. For one with terms
-- perhaps what Dedup.find returns; for one with blobs perhaps {"lacks", name}: that part is not there, and nothing was stored.
-- `batch`: that these jobs are a part of, see Batches.join.
function Lifecycle.submit(client, args, start, batch)
  local replies = {}
  for i = start, #args, 5 do
    local reply, rec = submit_one(client, args, i, batch)
    replies[#replies + 1] = reply
    if batch then Batches.join(batch, args[i], reply, rec) end
  end
  if batch then Batches.settle_part(batch) end
  return replies
end
