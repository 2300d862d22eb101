-- Limits: which jobs may start, and where the others wait.
--
-- A *gate* lets some of the jobs that come to it start: so many at a time (`n`), so many in a period (`count`,
-- `period_ms`), or none (`paused`). Those of a job come from its `terms` (what its task was declared with, JSON) and from
-- the hash `rules` (set for a task or a queue while the system runs), which may change a declared one. Their
-- names are "task:NAME", "queue:NAME" and "key:NAME".
--
-- Jobs that have a place are in `holders:{gate}`, from the start of an attempt until the call that ends it: no counter can
-- leak. Times of starts are in `starts:{gate}`. A job that finds a gate shut is *parked*: out of `ready`, in
-- `parked:{gate}` by its place in the line, so that it blocks no job behind it. `pump` lets the first go when a place or a
-- token is free; they come back to their place in the line, or to an idle worker, and stand in `freed:{gate}` until they
-- start. A queue's own gate parks no job: its whole line waits.
--
-- The resources of workers are another kind of gate: jobs wait in `parked:res:{queue}:{what}`, and each claim of a
-- worker that has such things looks there. `using:{worker}` says what its jobs use.
--
-- A job whose code came with it runs in one version of Python (`python` in its spec). A worker of another version leaves it in
-- its line. If no worker of the queue has that version, the job waits in `parked:py:{queue}:{version}` until one has.

local COUNTED_MOST = 500 -- running attempts that one call looks at
local LATE_MS = 20000 -- a worker whose last heartbeat is older starts no job
local FREED_MS = 10000 -- one that was let go and has not started by then may be in a line that no worker serves

local function rule_of(gate)
  if not rules then
    rules = {}
    local found = call('HGETALL', P .. 'rules')
    for i = 1, #found, 2 do rules[found[i]] = object(found[i + 1]) end
  end
  return rules[gate]
end

local function gate_of(name, declared)
  local rule = rule_of(name) or {}
  local function limit(value) return type(value) == 'number' and value > 0 and value < math.huge and value or nil end
  local gate = {name = name, n = limit(rule.n or declared.n), count = limit(rule.count or declared.count),
    period_ms = limit(rule.count and rule.period_ms or declared.period_ms), paused = rule.paused}
  if not gate.period_ms then gate.count = nil end
  return gate
end

-- The gates of a job, the narrowest first, and the resources that it needs: {gate, use = {name: amount}} or nil.
function Limits.gates_of(rec)
  local terms = rec.terms and object(rec.terms) or {}
  local found, task = {}, 'task:' .. Records.task_of(rec.spec)
  local has_task = false
  for _, declared in ipairs(type(terms.gates) == 'table' and terms.gates or {}) do
    if type(declared) == 'table' and type(declared.name) == 'string' then
      found[#found + 1] = gate_of(declared.name, declared)
      has_task = has_task or declared.name == task
    end
  end
  if rule_of(task) and not has_task then found[#found + 1] = gate_of(task, {}) end
  if rule_of('queue:' .. rec.queue) then found[#found + 1] = gate_of('queue:' .. rec.queue, {}) end
  local use = type(terms.use) == 'table' and type(terms.uses) == 'string' and terms.use
  return found, use and {gate = 'res:' .. rec.queue .. ':' .. terms.uses, use = use} or nil
end

-- True if no more jobs may start at a gate; if only time keeps it shut, also when that is over (us). `pending` jobs have been
-- let go and not started yet.
function Limits.is_shut(gate, pending, only_reads)
  if gate.paused then return true end
  if gate.n then
    local key = P .. 'holders:' .. gate.name
    local held = call('ZCARD', key)
    if held > 0 and held + pending >= gate.n then
      for _, id in ipairs(call('ZRANGE', key, 0, 31)) do -- of jobs that do not run: damaged data
        if not call('ZSCORE', P .. 'leases', id) then held = held - (only_reads and 1 or call('ZREM', key, id)) end
      end
    end
    if held + pending >= gate.n then return true end
  end
  if gate.count then
    if pending >= gate.count then return true end
    local start_us = number(call('LINDEX', P .. 'starts:' .. gate.name, pending - gate.count))
    local open_us = start_us + gate.period_ms * 1000
    if start_us > 0 and open_us > NOW_US then return true, open_us end
  end
  return false
end

-- True if a worker that runs code of this version of Python alone (nil: of any) cannot run a job.
function Limits.is_foreign(rec, python)
  return python and python ~= '' and (Records.wish(rec, 'python') or python) ~= python
end

-- True if a living worker of the queue runs code of this version.
local function has_python(queue, python)
  local key = queue .. ' ' .. python
  if pythons[key] == nil then
    pythons[key] = false
    for _, id in ipairs(call('ZREVRANGEBYSCORE', P .. 'workers', '+inf', NOW - LATE_MS, 'LIMIT', 0, 500)) do
      local w = call('HMGET', P .. 'worker:' .. id, 'runs', 'queues', 'stop', 'python')
      local serves = string.find(',' .. (w[2] or '') .. ',', ',' .. queue .. ',', 1, true)
      if serves and not w[3] and (w[1] == '' or (w[1] or w[4]) == python) then pythons[key] = true; break end
    end
  end
  return pythons[key]
end

local function pending_at(name)
  return call('ZCOUNT', P .. 'freed:' .. name, NOW - FREED_MS, '+inf')
end

-- A gate wakes no worker any more.
function Limits.disarm(name)
  local queue = call('HGET', P .. 'armed', name)
  if queue then
    call('ZREM', P .. 'due:' .. queue, '!' .. name)
    call('HDEL', P .. 'armed', name)
  end
end

-- Wakes a worker of the queue when the gate opens.
local function arm(name, queue, open_us)
  local at = string.format('%.0f', math.ceil(open_us / 1000))
  if call('ZSCORE', P .. 'due:' .. queue, '!' .. name) == at then return end
  Limits.disarm(name)
  call('ZADD', P .. 'due:' .. queue, at, '!' .. name)
  call('HSET', P .. 'armed', name, queue)
  Queue.wake(queue) -- it must learn of the earlier time
end

-- "10/m": as it was written, or with the seconds.
local function rate_text(gate)
  local unit = ({[1000] = 's', [60000] = 'm', [3600000] = 'h', [86400000] = 'd'})[gate.period_ms]
  return string.format('%d/%s', gate.count, unit or string.format('%g s', gate.period_ms / 1000))
end

-- "task train", "queue gpu"; of a key, what its name says.
local function gate_text(name)
  local kind, rest = string.match(name, '^(%a+):(.*)$')
  return kind == 'key' and rest or kind == 'res' and string.match(rest, '[^:]*$') or kind .. ' ' .. rest
end

-- What a parked job says of itself.
local function why_parked(name, gate)
  if string.sub(name, 1, 4) == 'res:' then return 'waits for ' .. gate_text(name) end
  if string.sub(name, 1, 3) == 'py:' then return 'waits for a worker with Python ' .. string.match(name, '[^:]*$') end
  if gate.paused then return gate_text(name) .. ' is paused' end
  if not gate.n then return 'waits for its rate: ' .. rate_text(gate) .. ' for ' .. gate_text(name) end
  return 'waits for a place of ' .. gate_text(name) .. ' (' .. gate.n .. ' at a time)'
end

-- A sentence where its progress will be, as news.
local function say(rec, message)
  local numbers = '"completed":null,"total":null,"message":' .. cjson.encode(message)
  local rev = call('HINCRBY', rec.key, 'rev', 1)
  call('HSET', rec.key, 'p', numbers, 'held', message)
  Records.publish(rec, Records.event(rec.id, rec.seq, 'progressed', '{"rev":' .. rev .. ',' .. numbers .. '}'))
end

-- A queued job waits at a gate; `score` is its place in the line.
function Limits.park(rec, name, score, gate)
  local last = call('HMGET', rec.key, 'held', 'freed')
  call('ZREM', P .. 'ready:' .. rec.queue, rec.id)
  call('ZADD', P .. 'parked:' .. name, score, rec.id)
  call('ZADD', P .. 'held:' .. rec.queue, score, rec.id)
  call('ZADD', P .. 'gates', 'NX', string.sub(name, 1, 3) == 'py:' and 0 or NOW, name) -- 0: looked at with the next heartbeat
  rec.terms = rec.terms or '{}'
  call('HSET', rec.key, 'parked', name, 'terms', rec.terms)
  local message = why_parked(name, gate)
  if last[1] ~= message then say(rec, message) end
  if last[2] then
    call('HDEL', rec.key, 'freed')
    call('ZREM', P .. 'freed:' .. last[2], rec.id)
    if last[2] ~= name then Limits.pump(last[2]) end -- its place there is another's
  end
  if string.sub(name, 1, 4) == 'res:' then
    call('SADD', P .. 'wanted:' .. rec.queue, name)
  elseif call('ZCARD', P .. 'parked:' .. name) == 1 then
    Limits.pump(name)
  end
end

-- Parks a job whose code no worker of its queue can run. Returns true if it is parked.
function Limits.park_foreign(rec, score)
  local python = Records.wish(rec, 'python')
  if type(python) ~= 'string' or has_python(rec.queue, python) then return false end
  Limits.park(rec, 'py:' .. rec.queue .. ':' .. python, score or call('ZSCORE', P .. 'ready:' .. rec.queue, rec.id))
  return true
end

-- True if a worker ({id, has}: its resources as JSON) has as much left as a job uses.
function Limits.fits(worker, use)
  local left, key = object(worker.has or ''), P .. 'using:' .. worker.id
  local using = call('HGETALL', key)
  for i = 1, #using, 2 do
    if call('ZSCORE', P .. 'leases', using[i]) then
      for name, amount in pairs(object(using[i + 1])) do left[name] = number(left[name]) - number(amount) end
    else
      call('HDEL', key, using[i])
    end
  end
  for name, amount in pairs(use) do
    if number(left[name]) < number(amount) - 1e-9 then return false end
  end
  return true
end

-- True if a queued job may start; nil if it is parked now; false if its whole queue has to wait. `worker` is the worker that
-- claims it ({id, has}), nil if the job comes to the line.
function Limits.admit(rec, score, worker)
  local gates, resources = Limits.gates_of(rec)
  local freed = rec.terms and call('HGET', rec.key, 'freed')
  for _, gate in ipairs(gates) do
    local is_new = not worker and freed ~= gate.name
    local is_whole = gate.name == 'queue:' .. rec.queue
    local shut, open_us = Limits.is_shut(gate, is_new and not is_whole and pending_at(gate.name) or 0)
    if is_whole then
      if shut then
        if open_us then arm(gate.name, rec.queue, open_us) end
        return false
      end
    elseif shut or (is_new and call('EXISTS', P .. 'parked:' .. gate.name) == 1) then
      return Limits.park(rec, gate.name, score or call('ZSCORE', P .. 'ready:' .. rec.queue, rec.id), gate)
    end
  end
  if worker and resources and not Limits.fits(worker, resources.use) then
    return Limits.park(rec, resources.gate, score or call('ZSCORE', P .. 'ready:' .. rec.queue, rec.id))
  end
  rec.gates, rec.resources = gates, resources
  return true
end

-- With the start of an attempt.
function Limits.take_places(rec, worker)
  local names, counted = {}, {}
  for _, gate in ipairs(rec.gates) do
    names[#names + 1] = gate.name
    call('ZADD', P .. 'holders:' .. gate.name, NOW, rec.id)
    if gate.count then
      local starts = P .. 'starts:' .. gate.name
      call('RPUSH', starts, string.format('%.0f', NOW_US))
      call('LTRIM', starts, -gate.count, -1)
      call('PEXPIRE', starts, math.ceil(gate.period_ms))
      counted[#counted + 1] = gate.name
    end
  end
  if rec.resources then
    call('HSET', P .. 'using:' .. worker, rec.id, cjson.encode(rec.resources.use))
    call('PEXPIRE', P .. 'using:' .. worker, 3600000)
  end
  if rec.terms then
    local freed = call('HGET', rec.key, 'freed')
    if freed then call('ZREM', P .. 'freed:' .. freed, rec.id) end
    call('HDEL', rec.key, 'freed', 'held')
  end
  if #names > 0 then
    rec.terms = rec.terms or '{}'
    call('HSET', rec.key, 'gates', cjson.encode(names), 'terms', rec.terms)
  end
  for _, name in ipairs(counted) do
    if call('EXISTS', P .. 'parked:' .. name) == 1 then Limits.pump(name) end -- when the next one may start is known now
  end
end

-- With the end of an attempt: what it held is free, as soon as `pump` is called.
function Limits.leave_places(rec)
  local names = call('HGET', rec.key, 'gates')
  if names then
    call('HDEL', rec.key, 'gates')
    for _, name in ipairs(object(names)) do
      call('ZREM', P .. 'holders:' .. name, rec.id)
      waiting[#waiting + 1] = name
    end
  end
  if rec.worker ~= '' then call('HDEL', P .. 'using:' .. rec.worker, rec.id) end
end

-- A queued job leaves the lines for good, or for another one.
function Limits.leave_line(rec)
  local at = call('HMGET', rec.key, 'parked', 'freed', 'held')
  if at[1] then
    call('ZREM', P .. 'parked:' .. at[1], rec.id)
    call('ZREM', P .. 'held:' .. rec.queue, rec.id)
    waiting[#waiting + 1] = at[1]
  end
  if at[2] then
    call('ZREM', P .. 'freed:' .. at[2], rec.id)
    waiting[#waiting + 1] = at[2]
  end
  if at[3] then say(rec, '') end
  call('HDEL', rec.key, 'parked', 'freed', 'held')
end

-- Back to its line, and to an idle worker if there is one. `from`: the gate at which it counts until it starts.
local function unpark(rec, name, from)
  local score = tonumber(call('ZSCORE', P .. 'parked:' .. name, rec.id))
  call('ZREM', P .. 'parked:' .. name, rec.id)
  call('ZREM', P .. 'held:' .. rec.queue, rec.id)
  call('HDEL', rec.key, 'parked')
  if from then
    call('HSET', rec.key, 'freed', from)
    call('ZADD', P .. 'freed:' .. from, NOW, rec.id)
  end
  return score
end

-- The first of those parked at a gate, as a record; damaged ones are left out.
local function first_at(name)
  while true do
    local id = call('ZRANGE', P .. 'parked:' .. name, 0, 0)[1]
    if not id then
      call('ZREM', P .. 'gates', name)
      Limits.disarm(name)
      local queue = string.match(name, '^res:(.*):[^:]*$')
      if queue then call('SREM', P .. 'wanted:' .. queue, name) end
      return nil
    end
    local rec = Records.read(id)
    if rec and rec.state == 'queued' then return rec end
    call('ZREM', P .. 'parked:' .. name, id)
  end
end

local function pump_one(name)
  local queue = string.match(name, '^queue:(.*)$')
  if queue then -- no job is parked there
    Queue.wake(queue)
    return
  end
  while true do
    local rec = first_at(name)
    if not rec or string.sub(name, 1, 4) == 'res:' then return end -- those are looked for, see `bring`
    local gate
    if string.sub(name, 1, 3) == 'py:' and not has_python(rec.queue, string.match(name, '[^:]*$')) then return end
    for _, one in ipairs(Limits.gates_of(rec)) do gate = one.name == name and one or gate end
    if gate then
      local shut, open_us = Limits.is_shut(gate, pending_at(name))
      if open_us then arm(name, rec.queue, open_us) end
      if shut then return end
    end
    if steps >= STEPS_MOST then return arm(name, rec.queue, NOW_US) end -- the rest follow at once, in other calls
    steps = steps + 1
    Damage.guard(rec.id, Queue.ready, rec, Queue.since_us(rec, unpark(rec, name, gate and name)))
  end
end

-- Lets go the jobs that a gate no longer holds; without a name, at all gates at which this call has moved something. A list and
-- not a recursion: one that is let go may find the next gate shut, and so on.
function Limits.pump(name)
  if name then waiting[#waiting + 1] = name end
  if is_pumping then return end
  is_pumping = true
  while #waiting > 0 do pump_one(table.remove(waiting, 1)) end
  is_pumping = false
end

-- The time has come for which a gate was armed. As many idle workers claim as the rate of a queue lets start: its jobs are not
-- parked, so that no other call hands them over.
function Limits.reopen(name, queue)
  call('HDEL', P .. 'armed', name)
  if name ~= 'queue:' .. queue then return Limits.pump(name) end
  local gate, ready, n = gate_of(name, {}), call('ZCARD', P .. 'ready:' .. queue), 0
  local idle = call('ZREVRANGE', P .. 'idle:' .. queue, 0, ready, 'WITHSCORES')
  for i = 1, #idle, 2 do
    if n >= ready or Limits.is_shut(gate, n) then return end
    if call('PUBLISH', P .. 'inbox:' .. idle[i], 'W') > 0 then n = n + number(idle[i + 1]) end
  end
end

-- Attempts that run already count at a gate that was set meanwhile: they hold places from now on. `from`: the time of submit (us) from
-- which on to look.
function Limits.count_running(gate, _, from)
  if not rule_of(gate) then return end
  local kind, name = string.match(gate, '^(%a+):(.*)$')
  local found = call('ZRANGEBYSCORE', P .. 'state:running', from or '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, COUNTED_MOST)
  for i = 1, #found, 2 do
    local rec = Records.read(found[i])
    if rec and rec.state == 'running' and name == (kind == 'queue' and rec.queue or Records.task_of(rec.spec)) then
      local names, has = object(call('HGET', rec.key, 'gates') or '[]'), false
      for _, one in ipairs(names) do has = has or one == gate end
      if not has then
        names[#names + 1] = gate
        call('ZADD', P .. 'holders:' .. gate, NOW, rec.id)
        call('HSET', rec.key, 'gates', cjson.encode(names), 'terms', rec.terms or '{}')
      end
    end
  end
  if #found == 2 * COUNTED_MOST then
    steps = STEPS_MOST
    Leftover.keep('rule', gate, found[#found])
  end
end

-- With each heartbeat: a net under the wake-ups, for places of jobs that do not run, and for
-- jobs that were let go into a line that no worker serves.
function Limits.revisit()
  for _, name in ipairs(call('ZRANGEBYSCORE', P .. 'gates', '-inf', NOW - 2500, 'LIMIT', 0, 20)) do
    call('ZADD', P .. 'gates', 'XX', NOW, name)
    Limits.pump(name)
  end
end

-- For a worker that has resources: the first jobs that wait for such resources come to the line that it claims from.
function Limits.bring(queue, worker, free)
  for _, name in ipairs(call('SMEMBERS', P .. 'wanted:' .. queue)) do
    for _ = 1, free do
      local rec = first_at(name)
      if not rec then break end
      local _, resources = Limits.gates_of(rec)
      if resources and not Limits.fits(worker, resources.use) then break end
      call('ZADD', P .. 'ready:' .. queue, unpark(rec, name), rec.id)
    end
  end
end
