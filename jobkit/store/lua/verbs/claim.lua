-- Up to `free` jobs for a worker. args: worker, free, received, held (jobs that it has), {queues, lease_ms, max_losses, ttl_ms, limit, and if there are
-- such: has (resources by name), weights (by queue), awaited (ids of the jobs that jobs of this worker wait for, the most
-- urgent first), lent (how many of those may start in the slots that the waiting ones have lent), blocked (its loop stands still), door (by which
-- jobs of another client come that it runs; others leave those in their line), python (the only version of which it runs code that came with a job)}.
-- A negative `received` starts the count of handed-over jobs anew: the worker is about to subscribe (again).
-- Returns {milliseconds until the next job is due or a lease ends (-1: nothing known), message...}.
--
-- A suspect (see `Lifecycle.lose`) starts only in a worker without other jobs, which takes nothing else as long as it runs.
-- If none is empty, one worker at a time takes no more jobs until it is. The jobs that such a worker's jobs wait for start
-- nevertheless. A worker's `suspect` is the job that it runs alone, or makes room for. Other jobs may run for days, and so may
-- the suspect: neither the wait for an empty worker (since the record's `room`) nor that for its end lasts longer than ALONE_MOST_MS.
local AWAITED_MOST = 200 -- of the jobs that jobs of the worker wait for, so many are looked at in one claim
local OTHERS_MOST = 500 -- the same of all other workers together
local BLOCKED_MOST = 200 -- ready jobs that may not start, and are looked at in one claim
local ALONE_MOST_MS = 600000 -- a suspect holds up other jobs no longer before it starts, nor when it runs
local ROOM_MS = 30000    -- after this long without a claim of the worker that makes room, another one may do it

-- A worker's options stay the same, so they are decoded once. They must not be changed.
local decoded, count = {}, 0
local function options_of(json)
  local options = decoded[json]
  if not options then
    if count == 100 then decoded, count = {}, 0 end
    options, count = cjson.decode(json), count + 1
    decoded[json] = options
  end
  return options
end

verb('claim', ALSO_WHEN_FULL, function(args)
  local worker, free, received = args[1], tonumber(args[2]), tonumber(args[3])
  local options = options_of(args[5])
  local queues, lease_ms, limit = options.queues, options.lease_ms, options.limit
  local key = P .. 'worker:' .. worker

  local known = call('HMGET', key, 'handed', 'ruled', 'turns', 'beat', 'awaited', 'free', 'lease', 'queues', 'suspect', 'stop')
  -- While this runs, nothing may be handed over to the caller itself. One without a free slot is in no line of idle ones.
  if known[6] ~= '0' then
    for _, queue in ipairs(queues) do call('ZREM', P .. 'idle:' .. queue, worker) end
  end
  local is_subscribing = received < 0
  if is_subscribing then
    call('HSET', key, 'handed', 0)
    received = 0
    known[1] = 0
  end
  -- `rule` notifies all workers that have sent a heartbeat.
  local ruled = known[2] == '1' or ((not known[2] or not known[4]) and call('EXISTS', P .. 'rules') == 1)
  local me = {id = worker, has = options.has and cjson.encode(options.has), python = options.python}

  -- Jobs that were handed over and are still on their way already fill slots that the worker thinks are free.
  local coming = number(known[1]) - received
  free = known[10] and 0 or free - coming -- one that was asked to end takes no more

  -- `next_at`: when the next lease ends or the next job is due. It is read once, unless this call changes it (`is_changed`).
  local has_lost, next_at = Lifecycle.recover(limit, lease_ms, options.max_losses, options.ttl_ms)
  local grace = has_lost and next_at or 0
  local is_changed = has_lost or options.awaited or options.has
  local reply = {-1}
  local parked, is_more = 0, false -- what was found at the head of a line and may not start
  local is_taken = false -- by a suspect, which it runs or makes room for

  -- Starts a ready job; returns 1, or 0 if it was not ours to run.
  local function start(rec)
    call('ZREM', P .. 'ready:' .. rec.queue, rec.id)
    if rec.suspect then call('HDEL', rec.key, 'room') end
    local message = Queue.start(rec, worker, lease_ms)
    reply[#reply + 1] = message
    is_changed = is_changed or not message -- it may be due later
    return message and 1 or 0
  end

  local function serves(queue)
    for _, one in ipairs(queues) do
      if one == queue then return true end
    end
    return false
  end

  local function may_start(rec)
    if Limits.is_foreign(rec, me.python) then return false end
    return not (ruled or rec.terms) or Damage.guard(rec.id, Limits.admit, rec, nil, me)
  end

  local function is_empty()
    return tonumber(args[4]) + coming == 0 and #reply == 1
  end

  -- Starts a suspect in this empty worker; returns 1, or 0 if it was not ours to run.
  local function start_alone(rec)
    local n = start(rec)
    if n == 1 then
      is_taken = true
      call('HSET', key, 'suspect', rec.id)
    end
    return n
  end

  -- True if a suspect has waited long enough for an empty worker.
  local function is_overdue(rec)
    call('HSETNX', rec.key, 'room', NOW)
    return NOW - number(call('HGET', rec.key, 'room')) > ALONE_MOST_MS
  end

  -- True if this worker takes no more jobs, so that it can run a suspect: unless another one does so already.
  local function make_room(rec)
    local other = call('GET', P .. 'room')
    if other and other ~= worker then return false end
    call('SET', P .. 'room', worker, 'PX', ROOM_MS)
    call('HSET', key, 'suspect', rec.id)
    is_taken = true
    return true
  end

  -- Up to `most` jobs of a queue; returns how many.
  local function take(queue, most)
    local passed, taken = 0, 0
    while taken < most and passed + parked <= BLOCKED_MOST do
      local before, is_shut_whole = passed + parked, false
      for _, id in ipairs(call('ZRANGE', P .. 'ready:' .. queue, passed, passed + most - taken - 1)) do
        local rec, may = Records.read(id), true
        if not rec or rec.state ~= 'queued' then
          call('ZREM', P .. 'ready:' .. queue, id)
        elseif rec.door and rec.door ~= options.door then
          passed = passed + 1
        elseif Limits.is_foreign(rec, me.python) then
          if Damage.guard(id, Limits.park_foreign, rec) then parked = parked + 1 else passed = passed + 1 end
        else
          if ruled or rec.terms then
            is_changed = true
            may = Damage.guard(id, Limits.admit, rec, nil, me)
          end
          if may and rec.suspect and is_empty() then return Damage.guard(id, start_alone, rec) or 0 end
          if may and rec.suspect and not is_overdue(rec) then
            if make_room(rec) then return taken end
            passed = passed + 1 -- it waits for another worker
          elseif may then
            taken = taken + (Damage.guard(id, start, rec) or 0)
          end
          if may == nil then parked = parked + 1 end
          if may == false then is_shut_whole = true; break end
        end
      end
      if is_shut_whole or passed + parked == before then break end
    end
    is_more = is_more or (taken < most and parked > BLOCKED_MOST)
    return taken
  end

  if options.awaited then
    -- A job that waits for others lends its slot. The slot takes what is waited for, so that jobs that wait can never fill up
    -- all slots of all workers for good: what jobs of this worker wait for, then what those of others do. The newest wait is
    -- the most urgent: depth first, or each of a thousand such jobs would start before the first one could end.
    local function take_awaited(ids, lent, most)
      local open, seen, n = {}, {}, 0
      for i = #ids, 1, -1 do open[#open + 1] = ids[i] end
      while #open > 0 and lent > 0 and n < most do
        local id = table.remove(open)
        local rec = not seen[id] and Records.read(id)
        seen[id] = true
        n = n + 1
        if rec and rec.waits then -- for the results of others: it is those that have to run
          for _, need in ipairs(Records.needs(rec)) do open[#open + 1] = need end
        elseif rec and rec.state == 'queued' and serves(rec.queue) and call('ZSCORE', P .. 'ready:' .. rec.queue, id)
          and (not rec.door or rec.door == options.door) and may_start(rec) then
          local n = Damage.guard(id, start, rec) or 0
          lent, free = lent - n, free - n
        end
      end
      return lent
    end

    local awaited = table.concat(options.awaited, ',')
    call('HSET', key, 'awaited', awaited)
    call('ZADD', P .. 'lending', NOW, worker)
    call('PEXPIRE', P .. 'lending', 3600000)
    local lent = take_awaited(options.awaited, options.lent - coming, AWAITED_MOST)
    local others = call('ZREVRANGE', P .. 'lending', 0, 99)
    for _, other in ipairs(others) do
      local theirs = other ~= worker and call('HGET', P .. 'worker:' .. other, 'awaited')
      if theirs then
        local ids = {}
        for id in string.gmatch(theirs, '[^,]+') do ids[#ids + 1] = id end
        lent = take_awaited(ids, lent, OTHERS_MOST / #others)
        if awaited ~= known[5] then call('PUBLISH', P .. 'inbox:' .. other, 'W') end -- it may serve their queues
      elseif other ~= worker then
        call('ZREM', P .. 'lending', other)
      end
    end
  elseif known[5] then
    call('HDEL', key, 'awaited')
    call('ZREM', P .. 'lending', worker)
  end

  if known[9] then
    local rec = Records.read(known[9])
    local waits = rec and rec.state == 'queued' and free > 0 and serves(rec.queue)
      and call('ZSCORE', P .. 'ready:' .. rec.queue, rec.id) and may_start(rec)
    local runs_here = rec and rec.state == 'running' and rec.worker == worker
    is_taken = runs_here and NOW - number(call('HGET', rec.key, 'started')) <= ALONE_MOST_MS
      or waits and not is_empty() and not is_overdue(rec) and make_room(rec)
    if not is_taken then
      call('HDEL', key, 'suspect')
      if call('GET', P .. 'room') == worker then call('DEL', P .. 'room') end
      if waits and is_empty() then Damage.guard(rec.id, start_alone, rec) end
    end
    is_changed = true
  end
  if is_taken then free = 0 end

  -- One that is about to subscribe, or is blocked, does not wait for any time.
  local function look(queue, due)
    return (is_subscribing or options.blocked) and due or Queue.next_look(queue, due, worker)
  end
  if options.blocked then Queue.stop_watching(worker, table.concat(queues, ',')) end

  if options.has then call('PEXPIRE', P .. 'using:' .. worker, 3600000) end
  for _, queue in ipairs(queues) do
    local has_promoted, next_due = Queue.promote(queue, math.ceil(limit / #queues))
    is_changed = is_changed or has_promoted
    if next_due then next_at = math.min(next_at or math.huge, look(queue, next_due)) end
    if options.has and free > 0 then Limits.bring(queue, me, free) end
    if not options.weights and free > 0 and not is_taken then free = free - take(queue, free) end
  end

  -- By weight: each job costs its queue a turn of 1 / weight, and the queue with the fewest turns is next. A queue that
  -- was empty comes back with as many turns as the others have, so that it does not make up for the time.
  local turns = options.weights and object(known[3] or '{}')
  if turns then
    local open = {}
    for i, queue in ipairs(queues) do open[i] = queue end
    for queue, had in pairs(turns) do
      if type(had) ~= 'number' then turns[queue] = nil end
    end
    local function least()
      local found = math.huge
      for _, had in pairs(turns) do found = math.min(found, had) end
      return found < math.huge and found or 0
    end
    while free > 0 and #open > 0 and not is_taken do
      local floor, chosen = least(), 1
      for _, queue in ipairs(open) do turns[queue] = turns[queue] or floor end
      for i, queue in ipairs(open) do
        if turns[queue] < turns[open[chosen]] then chosen = i end
      end
      local queue = open[chosen]
      if take(queue, 1) == 1 then
        free = free - 1
        turns[queue] = turns[queue] + 1 / options.weights[queue]
      else
        turns[queue] = nil
        table.remove(open, chosen)
      end
    end
    local floor = least()
    for queue, had in pairs(turns) do turns[queue] = had - floor end
  end

  free = is_taken and 0 or math.max(0, free)
  local line = table.concat(queues, ',')
  local is_known = known[7] == tostring(lease_ms) and known[8] == line and known[2] == (ruled and '1' or '0')
  if free > 0 or known[6] ~= '0' or not is_known then
    call('HSET', key, 'free', free, 'lease', lease_ms, 'queues', line, 'ruled', ruled and 1 or 0, 'runs', me.python or '')
    if options.door then call('HSET', key, 'door', options.door) end
  end
  if turns then call('HSET', key, 'turns', cjson.encode(turns)) end
  if me.has then call('HSET', key, 'has', me.has) end
  if not known[4] then call('PEXPIRE', key, 3600000) end -- else its heartbeats do
  if free > 0 then
    for _, queue in ipairs(queues) do call('ZADD', P .. 'idle:' .. queue, free, worker) end
  end
  if is_changed then
    next_at = tonumber(call('ZRANGE', P .. 'leases', 0, 0, 'WITHSCORES')[2])
    if grace > 0 then -- the leases that are over have to wait; the next one to end does not
      local lease = call('ZRANGEBYSCORE', P .. 'leases', '(' .. NOW, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      next_at = math.min(grace, tonumber(lease[2] or grace))
    end
    for _, queue in ipairs(queues) do
      local due = tonumber(call('ZRANGE', P .. 'due:' .. queue, 0, 0, 'WITHSCORES')[2])
      if due then next_at = math.min(next_at or math.huge, look(queue, due)) end
    end
  elseif #reply > 1 then
    next_at = math.min(next_at or math.huge, NOW + lease_ms)
  end
  if is_more then next_at = NOW end
  if next_at then reply[1] = math.max(0, math.ceil(next_at - NOW)) end
  return reply
end)
