-- How a queued job comes to a worker: handed over when one is idle, else ready in its queue until a worker claims it.

local PRIORITY_US = 600 * 1000000 -- one point of priority is worth ten minutes of waiting: no job starves
local WATCH_LATE_MS = 1000         -- after this time, other workers look for a due job, too
local FIRST_EVENTS = 20           -- the first start is stored as an event if it is not among them

-- The place of a job in its line that has waited since then, and the other way round.
function Queue.score(rec, since_us)
  return since_us - rec.priority * PRIORITY_US
end

function Queue.since_us(rec, score)
  return score + rec.priority * PRIORITY_US
end

-- The JSON text of a worker's name. Most calls are of the same worker as the last one.
local quoted_name, quoted_json
local function quoted(worker)
  if worker ~= quoted_name then quoted_name, quoted_json = worker, cjson.encode(worker) end
  return quoted_json
end

-- The second attempt replaces the fields that implied the start of the first one: it is stored as an event now.
local function keep_first_start(rec)
  for seq = 2, math.min(rec.seq, FIRST_EVENTS) do
    if call('HEXISTS', rec.key, 'e' .. seq) == 0 then
      local started = number(call('HGET', rec.key, 'started'))
      call('HSET', rec.key, 'e' .. seq, cjson.encode({id = rec.id, seq = seq, type = 'started', at = started,
        data = {state = 'running', attempt = 1, worker = rec.worker, started = started}}))
      return
    end
  end
end

-- Gives a queued job to a worker: a new attempt, a new token, a lease. Returns what the worker needs to run it; nil for
-- one that turns out not to be ours to run now: see the moment `starts`.
function Queue.start(rec, worker, lease_ms)
  rec.attempt = rec.attempt + 1
  rec.token = worker .. ':' .. rec.attempt
  if rec.uses and reached_by_user('starts', rec, lease_ms) then return end
  if rec.attempt == 2 then keep_first_start(rec) end
  rec.worker = worker
  call('ZADD', P .. 'leases', NOW + lease_ms, rec.id)
  if rec.attempt > 1 or rec.terms then call('HDEL', rec.key, 'p') end
  if rec.gates then Limits.take_places(rec, worker) end
  Records.move(rec, 'running')
  local data = '{"state":"running","attempt":' .. rec.attempt .. ',"worker":' .. quoted(worker) .. ',"started":' .. NOW .. '}'
  Records.emit(rec, 'started', data,
    {'state', 'running', 'attempt', rec.attempt, 'worker', worker, 'token', rec.token, 'started', NOW}, nil,
    rec.attempt == 1 and rec.seq < FIRST_EVENTS)
  return '{"token":' .. string.sub(quoted(worker), 1, -2) .. ':' .. rec.attempt .. '","id":"' .. rec.id .. '","attempt":' .. rec.attempt .. ',"retried":' .. rec.retried
    .. ',"losses":' .. rec.losses .. ',"started":' .. NOW .. ',"us":' .. string.format('%.0f', tonumber(rec.us)) .. ',"spec":' .. rec.spec .. '}\n'
    .. (rec.payload or call('GET', P .. 'args:' .. rec.id) or '')
end

-- A waiting job becomes queued; its caller makes it ready.
function Queue.enter(rec)
  Records.move(rec, 'queued')
  Records.emit(rec, 'queued', {state = 'queued'}, {'state', 'queued'})
end

-- A worker is gone or full: no queue offers it any more.
function Queue.unregister(worker, queues)
  for queue in string.gmatch(queues or '', '[^,]+') do call('ZREM', P .. 'idle:' .. queue, worker) end
  if queues then call('HSET', P .. 'worker:' .. worker, 'free', 0) end
end

-- A job leaves the one set that it is in: running ones, or those that wait for a worker or for their time.
function Queue.leave(rec)
  if rec.state == 'running' then
    call('ZREM', P .. 'leases', rec.id)
    if rec.terms then Limits.leave_places(rec) end
  else
    call('ZREM', P .. (rec.state == 'queued' and 'ready:' or 'due:') .. rec.queue, rec.id)
    if rec.terms then Limits.leave_line(rec) end
  end
end

-- The idle worker of a queue with most free slots, and with the resources that a job needs if there is one, as {id, free,
-- lease_ms, queues, ruled}, or nil. `ruled` says that the namespace has rules (limits of tasks and queues, see Limits), so
-- that a job that meets no rule does not read them. A job that came by a door (`arq`: by its client) goes only to
-- a worker of that door.
function Queue.idlest(queue, rec)
  local use, idle = rec and rec.resources and rec.resources.use, P .. 'idle:' .. queue
  if idle == empty_line then return nil end
  local ids = call('ZREVRANGE', idle, 0, (use or rec and rec.door) and 31 or rec and Records.wish(rec, 'python') and 255 or 15)
  if #ids == 0 then empty_line = idle end
  for _, id in ipairs(ids) do
    local w = call('HMGET', P .. 'worker:' .. id, 'free', 'lease', 'queues', 'ruled', 'has', 'door', 'runs')
    local free, lease_ms = number(w[1]), number(w[2])
    if free <= 0 or lease_ms <= 0 then
      call('ZREM', idle, id)
    elseif rec and Limits.is_foreign(rec, w[7]) then
      rec.is_foreign = true
    elseif (not use or Limits.fits({id = id, has = w[5]}, use)) and (not (rec and rec.door) or w[6] == rec.door) then
      return {id = id, free = free, lease_ms = lease_ms, queues = w[3], ruled = w[4] == '1'}
    end
  end
end

-- Lets an idle worker of the queue claim, once a call: there is a job for it, or an earlier time at which to claim.
function Queue.wake(queue)
  local worker = first('wake ' .. queue) and Queue.idlest(queue)
  if worker then call('PUBLISH', P .. 'inbox:' .. worker.id, 'W') end
end

-- What runs beside workers sleeps until something is due, so it must hear of an earlier time: in all of them, since some may be
-- frozen.
function Queue.wake_beside()
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'workers', NOW - 120000, '+inf', 'LIMIT', 0, 1000)) do
    call('PUBLISH', P .. 'inbox:' .. id, 'T')
  end
end

-- Workers with jobs that wait for others claim anew, once a call: the slots that those have lent are for what
-- becomes ready.
function Queue.tell_lenders()
  if not first('lenders') then return end
  for _, id in ipairs(call('ZREVRANGE', P .. 'lending', 0, 99)) do call('PUBLISH', P .. 'inbox:' .. id, 'W') end
end

-- Hands a job over as a message on the worker's own channel. A channel without subscriber shows that the worker is dead;
-- then the next one is tried. Returns true if the job was handed over, parked or ended; else it stays in its line: no idle
-- worker is left (nil), or the gate of its queue is shut (false).
local function hand_over(rec, worker, score)
  local queue = rec.queue
  while worker do
    if worker.ruled and not rec.gates then
      local is_open = Limits.admit(rec, score)
      if not is_open then return is_open == nil end
    end
    local inbox = P .. 'inbox:' .. worker.id
    if call('PUBSUB', 'NUMSUB', inbox)[2] > 0 then
      local message = Queue.start(rec, worker.id, worker.lease_ms)
      if not message then return true end
      call('PUBLISH', inbox, 'J' .. message)
      call('HINCRBY', P .. 'worker:' .. worker.id, 'handed', 1)
      if worker.free == 1 then
        Queue.unregister(worker.id, worker.queues)
      else
        call('HINCRBY', P .. 'worker:' .. worker.id, 'free', -1)
        call('ZINCRBY', P .. 'idle:' .. queue, -1, worker.id)
      end
      return true
    end
    Queue.unregister(worker.id, worker.queues)
    worker = Queue.idlest(queue, rec)
  end
end

-- Makes a queued job ready: an idle worker gets it at once if no job waits before it. `since_us` is its place in the line:
-- the time from which it has waited. No job waits for one that `is_new`, so lent slots are not for it.
function Queue.ready(rec, since_us, is_new)
  local queue = rec.queue
  local score = Queue.score(rec, since_us)
  local is_open = true
  if rec.terms then
    is_open = Limits.admit(rec, score)
    if is_open == nil then return end
  end
  local worker = is_open and not rec.suspect and Queue.idlest(queue, rec)
  if worker and (rec.resources or call('EXISTS', P .. 'ready:' .. queue) == 0) then
    if hand_over(rec, worker, score) then return end
    worker = nil
  end
  if rec.resources then return Limits.park(rec, rec.resources.gate, score) end
  if rec.is_foreign and not worker and Limits.park_foreign(rec, score) then return end
  call('ZADD', P .. 'ready:' .. queue, score, rec.id)
  if not is_new then Queue.tell_lenders() end
  if worker then
    call('PUBLISH', P .. 'inbox:' .. worker.id, 'W')
  elseif is_open and rec.suspect and first('suspect ' .. queue) then -- not every worker may take it
    for _, id in ipairs(call('ZREVRANGE', P .. 'idle:' .. queue, 0, 15)) do call('PUBLISH', P .. 'inbox:' .. id, 'W') end
  end
end

-- A job goes to wait for its time, or, if it is queued, for a worker; see `ready`.
function Queue.line_up(rec, due, since_us, is_new)
  if rec.state == 'queued' then return Queue.ready(rec, since_us, is_new) end
  call('ZADD', P .. 'due:' .. rec.queue, due, rec.id)
  Queue.wake(rec.queue) -- it must learn of the earlier time
end

-- When a worker should claim again, since the next job of a queue is due then. One worker watches for that time, and its claim
-- hands the job to an idle worker; the others come later, in case it has died. If all came at once, one job would cost as
-- many claims as there are workers.
function Queue.next_look(queue, due, worker)
  local at = string.format('%.0f ', math.ceil(due))
  local found = call('HGET', P .. 'watching', queue) or ''
  if found == at .. worker then return due end
  -- A worker that watches for another time may have come for that already, and does not know this one.
  if string.sub(found, 1, #at) == at and due > NOW - WATCH_LATE_MS then
    return due + WATCH_LATE_MS + 10 * call('ZCARD', P .. 'idle:' .. queue)
  end
  call('HSET', P .. 'watching', queue, at .. worker)
  call('PEXPIRE', P .. 'watching', 3600000)
  return due
end

-- A worker that may watch for due jobs ends, or is blocked: others watch, from their next claim on.
function Queue.stop_watching(worker, queues)
  for queue in string.gmatch(queues or '', '[^,]+') do
    local found = call('HGET', P .. 'watching', queue)
    if found and string.match(found, ' (.*)$') == worker then
      call('HDEL', P .. 'watching', queue)
      Queue.wake(queue)
    end
  end
end

-- Queues scheduled jobs whose time has come. They wait since then, whenever that is noticed. Returns true if there were
-- any, else false and when the next is due, if there is one.
function Queue.promote(queue, limit)
  local next_due = tonumber(call('ZRANGE', P .. 'due:' .. queue, 0, 0, 'WITHSCORES')[2])
  if not next_due or next_due > NOW then return false, next_due end
  local found = call('ZRANGEBYSCORE', P .. 'due:' .. queue, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #found, 2 do
    local id = found[i]
    call('ZREM', P .. 'due:' .. queue, id)
    local gate = string.match(id, '^!(.*)$') -- no job: a limit by rate lets another one start
    local rec = not gate and Records.read(id)
    if gate then
      Limits.reopen(gate, queue)
    elseif rec and rec.state == 'scheduled' then
      Damage.guard(id, Queue.enter, rec)
      if rec.state == 'queued' then Damage.guard(id, Queue.ready, rec, tonumber(found[i + 1]) * 1000) end
    end
  end
  return true
end
