-- Shared by every transition; put before each script when it is loaded.
--
-- KEYS[1] is the prefix of the namespace ("jk:default:"). All other keys are built from it and from ids that were
-- checked before they came here, so a namespace lives on one server (no Redis Cluster).
--
-- The only clock is Redis's own. NOW is in milliseconds; NOW_US in microseconds orders jobs of the same millisecond.

if (redis.REDIS_VERSION_NUM or 0) < 0x00070200 then -- servers before 7.0 do not define it
  return redis.error_reply('OLDSERVER ' .. (redis.REDIS_VERSION or 'before 7.0'))
end

local P = KEYS[1]
local TIME = redis.call('TIME')
local NOW = TIME[1] * 1000 + math.floor(TIME[2] / 1000)
local NOW_US = TIME[1] * 1000000 + TIME[2]

local EVENTS_KEPT = 20000        -- numbered events of the namespace, for those who were away
local HISTORY_HEAD, HISTORY_TAIL = 20, 180 -- numbered events kept with a record
local PRIORITY_US = 600 * 1000000 -- one point of priority is worth ten minutes of waiting: nobody starves

local AWAITED_MOST = 200         -- of the jobs that running jobs wait for so many are looked at in one claim
local SUSPECT = 2                -- a job that lost so many workers is the only such one of the next

-- A server above its maxmemory refuses what may make it grow, but not to a script that has written before. What was
-- accepted must be able to end, and its worker to keep it: so every script that ends or renews begins with a write of nothing.
local function exceed_memory()
  redis.call('HDEL', P .. 'nothing', '')
end

-- Why the server takes no submit just now (full, its disk fails, a replica), in its own words, or "". Another write of
-- nothing, but of a kind that could make it grow. To be asked before anything is written.
local function refusal()
  local reply = redis.pcall('SET', P .. 'nothing', '', 'XX')
  return type(reply) == 'table' and reply.err or ''
end

local FIELDS = {'state', 'seq', 'queue', 'client', 'token', 'attempt', 'us', 'cancel', 'retried', 'losses', 'releases',
  'priority', 'fin', 'worker', 'spec', 'arq', 'waits', 'after', 'terms'}

-- A JSON object, or an empty table for whatever else it is.
local function object(json)
  local ok, value = pcall(cjson.decode, json)
  return ok and type(value) == 'table' and value or {}
end

-- A number that can be counted on, 0 for whatever else it is.
local function number(text)
  local value = tonumber(text or 0) or 0
  return value > -2^53 and value < 2^53 and value or 0
end

-- What only jobs with limits need, and such as are the same work as others: `hold` makes these functions, from hold.lua and
-- once.lua, the first time that it is called in a script. Making them costs half as much as a whole claim.
local hold
local admit, park, take_places, leave_places, leave_line, fitting, pump
local gates_of, is_shut, task_of, disarm, look_at_gates, bring
local once_ended, known_as, replace, end_as

-- The record of a job, or nil; also nil for what is there but is none, so that it holds up nobody. Counters are numbers;
-- fields that are not set are false.
local function read(id)
  local values = redis.pcall('HMGET', P .. 'job:' .. id, unpack(FIELDS))
  if values.err or not values[1] then return nil end
  local rec = {id = id}
  for i, name in ipairs(FIELDS) do rec[name] = values[i] end
  rec.seq = rec.seq and number(rec.seq)
  rec.attempt = number(rec.attempt)
  rec.retried = number(rec.retried)
  rec.losses = number(rec.losses)
  rec.releases = number(rec.releases)
  rec.priority = number(rec.priority)
  rec.worker = rec.worker or ''
  if not (rec.seq and rec.spec and rec.queue and number(rec.us) > 0) then return nil end
  if rec.terms then hold() end
  return rec
end

-- Writes the next numbered event and the fields that change with it, then tells everybody.
-- `set` is a flat list of field, value; `data` is what the event carries; `rider` are bytes for the submitter alone.
local function emit(rec, kind, data, set, rider)
  local seq = rec.seq + 1
  rec.seq = seq
  local event = cjson.encode({id = rec.id, seq = seq, type = kind, at = NOW, data = data})
  if data.asked then -- a spec as it came: decoded and encoded again, an empty list would be an object
    local from, to = string.find(event, cjson.encode(data.asked), 1, true)
    event = string.sub(event, 1, from - 1) .. data.asked .. string.sub(event, to + 1)
  end
  local kept = event
  if data.error and data.error.traceback ~= '' then -- the record's own field has it once
    local traceback, source = data.error.traceback, data.error.source
    data.error.traceback, data.error.source = '', nil
    kept = cjson.encode({id = rec.id, seq = seq, type = kind, at = NOW, data = data})
    data.error.traceback, data.error.source = traceback, source
  end
  local n = #set
  set[n + 1], set[n + 2], set[n + 3], set[n + 4] = 'seq', seq, 'e' .. seq, kept
  redis.call('HSET', P .. 'job:' .. rec.id, unpack(set))
  if seq > HISTORY_HEAD + HISTORY_TAIL then redis.call('HDEL', P .. 'job:' .. rec.id, 'e' .. (seq - HISTORY_TAIL)) end
  redis.call('XADD', P .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', kept)
  if rec.client and rec.client ~= '' then -- first, so that of two copies the one with the result is applied
    redis.call('PUBLISH', P .. 'client:' .. rec.client, rider and (event .. '\n' .. rider) or event)
  end
  redis.call('PUBLISH', P .. 'ch:' .. rec.id, event)
  redis.call('PUBLISH', P .. 'all', event)
end

-- Something changed that is no job's: groups of failures, what is paused. Whoever shows such things looks again. It comes
-- as news of a job that cannot be: no id has a space.
local is_told = false
local function tell_control()
  if is_told then return end
  is_told = true
  redis.call('PUBLISH', P .. 'ch:control news', '{"id":"control news","seq":1,"type":"logged","at":' .. NOW .. ',"data":{}}')
end

-- The indexes that pages are read from: one sorted set for each state, by the time of submit.
local function move(rec, state)
  redis.call('ZREM', P .. 'state:' .. rec.state, rec.id)
  redis.call('ZADD', P .. 'state:' .. state, rec.us, rec.id)
  rec.state = state
end

local disown, arq_take, arq_return, arq_end -- of jobs that came by arq's own client; see arq.lua
local note_failure, leave_group, note_repeat, note_healed -- groups of failed jobs; see failures.lua
local schedule_ended -- see schedules.lua

-- Gives a queued job to a worker: a new attempt, a new token, a lease. Returns what the worker needs to run it; nil for
-- one that turns out not to be ours to run, and then its life here is over.
local function start(rec, worker, lease_ms)
  local key = P .. 'job:' .. rec.id
  rec.attempt = rec.attempt + 1
  rec.token = worker .. ':' .. rec.attempt
  if rec.arq and not arq_take(rec, lease_ms) then
    disown(rec)
    return nil
  end
  rec.worker = worker
  redis.call('ZADD', P .. 'leases', NOW + lease_ms, rec.id)
  if rec.attempt > 1 or rec.terms then redis.call('HDEL', key, 'p') end
  if rec.gates then take_places(rec, worker) end
  if rec.losses >= SUSPECT then redis.call('HSET', P .. 'worker:' .. worker, 'suspect', rec.id) end
  move(rec, 'running')
  emit(rec, 'started', {state = 'running', attempt = rec.attempt, worker = worker, started = NOW},
    {'state', 'running', 'attempt', rec.attempt, 'worker', worker, 'token', rec.token, 'started', NOW})
  return '{"token":"' .. rec.token .. '","id":"' .. rec.id .. '","attempt":' .. rec.attempt .. ',"retried":' .. rec.retried
    .. ',"losses":' .. rec.losses .. ',"started":' .. NOW .. ',"us":' .. string.format('%.0f', tonumber(rec.us)) .. ',"spec":' .. rec.spec .. '}\n'
    .. (redis.call('GET', P .. 'args:' .. rec.id) or '')
end

-- A worker is gone or full: no queue offers it any more.
local function unregister(worker, queues)
  for queue in string.gmatch(queues or '', '[^,]+') do redis.call('ZREM', P .. 'idle:' .. queue, worker) end
  if queues then redis.call('HSET', P .. 'worker:' .. worker, 'free', 0) end
end

-- The idle worker of a queue with most free slots, as {id, free, lease_ms, queues, ruled}, or nil. `ruled` says that the
-- namespace has rules (limits of tasks and queues, see hold.lua), so that who meets no rule needs not to ask for them.
local function idlest(queue)
  for _ = 1, 16 do
    local id = redis.call('ZREVRANGE', P .. 'idle:' .. queue, 0, 0)[1]
    if not id then return nil end
    local w = redis.call('HMGET', P .. 'worker:' .. id, 'free', 'lease', 'queues', 'ruled')
    local free = tonumber(w[1] or 0)
    if free > 0 and w[2] then
      return {id = id, free = free, lease_ms = tonumber(w[2]), queues = w[3], ruled = w[4] == '1'}
    end
    redis.call('ZREM', P .. 'idle:' .. queue, id)
  end
end

-- Whether a worker runs a suspect: a job whose workers died, maybe of it. Two of them in one worker, and nobody could
-- tell which of the two it was; one after the other, the innocent ones come through.
local function has_suspect(worker)
  local id = redis.call('HGET', P .. 'worker:' .. worker, 'suspect')
  if not id then return false end
  local found = redis.call('HMGET', P .. 'job:' .. id, 'state', 'worker')
  return found[1] == 'running' and found[2] == worker
end

-- Workers with jobs that wait for others look again, once for each script: the slots that those have lent are for what
-- becomes ready.
local are_lenders_told = false
local function tell_lenders()
  if are_lenders_told then return end
  are_lenders_told = true
  for _, id in ipairs(redis.call('ZREVRANGE', P .. 'lending', 0, 99)) do redis.call('PUBLISH', P .. 'inbox:' .. id, 'W') end
end

-- Makes a queued job ready. If nobody waits before it and a worker is idle, the worker gets it at once, as a message on
-- its own channel. A channel without subscriber tells here and now that the worker is dead; then the next one is tried.
-- `since_us` is its place in the line: the time from which it has waited.
local function ready(rec, since_us)
  local queue = rec.queue
  local score = since_us - rec.priority * PRIORITY_US
  local is_open = true
  if rec.terms then
    is_open = admit(rec, score)
    if is_open == nil then return end
  end
  local find = rec.resources and fitting or idlest
  if is_open and rec.losses < SUSPECT and (rec.resources or redis.call('EXISTS', P .. 'ready:' .. queue) == 0) then
    local worker = find(queue, rec)
    while worker do
      if worker.ruled and not rec.gates then
        hold()
        is_open = admit(rec, score)
        if is_open == nil then return end
        if not is_open then break end
      end
      local inbox = P .. 'inbox:' .. worker.id
      if redis.call('PUBSUB', 'NUMSUB', inbox)[2] > 0 then
        local message = start(rec, worker.id, worker.lease_ms)
        if not message then return end
        redis.call('PUBLISH', inbox, 'J' .. message)
        redis.call('HINCRBY', P .. 'worker:' .. worker.id, 'handed', 1)
        if worker.free == 1 then
          unregister(worker.id, worker.queues)
        else
          redis.call('HINCRBY', P .. 'worker:' .. worker.id, 'free', -1)
          redis.call('ZINCRBY', P .. 'idle:' .. queue, -1, worker.id)
        end
        return
      end
      unregister(worker.id, worker.queues)
      worker = find(queue, rec)
    end
  end
  if rec.resources then return park(rec, rec.resources.gate, score) end
  redis.call('ZADD', P .. 'ready:' .. queue, score, rec.id)
  tell_lenders()
  if not is_open then return end
  if rec.losses >= SUSPECT then -- not every worker may take it
    for _, id in ipairs(redis.call('ZREVRANGE', P .. 'idle:' .. queue, 0, 15)) do
      redis.call('PUBLISH', P .. 'inbox:' .. id, 'W')
    end
    return
  end
  local worker = idlest(queue)
  if worker then redis.call('PUBLISH', P .. 'inbox:' .. worker.id, 'W') end
end

-- What the submitter asked for in the spec, or nil.
local function wish(rec, name)
  if not string.find(rec.spec, '"' .. name .. '":', 1, true) then return nil end
  return object(rec.spec)[name]
end

-- How long to keep a job that no worker ended: its own wish, else the setting.
local function kept_ms(rec, ttl_ms)
  local own_s = wish(rec, 'result_ttl_s')
  return type(own_s) == 'number' and math.max(1, math.floor(own_s * 1000)) or ttl_ms
end

local settle

-- The end of a job's life: out of every queue, kept for `ttl_ms`. Those that wait for its result go on, or end as well.
local function conclude(rec, state, kind, data, set, ttl_ms, rider)
  if rec.arq then arq_end(rec, state, data) end
  if rec.state == 'running' then -- a live job is in exactly one of the three, but for one that waits for others
    redis.call('ZREM', P .. 'leases', rec.id)
  elseif rec.waits then
    redis.call('HDEL', P .. 'job:' .. rec.id, 'waits')
    rec.waits = false
    for _, need in ipairs(wish(rec, 'needs') or {}) do redis.call('ZREM', P .. 'after:' .. need, rec.id) end
  else
    redis.call('ZREM', P .. 'ready:' .. rec.queue, rec.id)
    redis.call('ZREM', P .. 'due:' .. rec.queue, rec.id)
    if rec.terms then leave_line(rec) end
  end
  if rec.terms then leave_places(rec) end
  move(rec, state)
  data.state, data.finished = state, NOW
  local n = #set
  set[n + 1], set[n + 2], set[n + 3], set[n + 4] = 'state', state, 'finished', NOW
  emit(rec, kind, data, set, rider)
  redis.call('ZADD', P .. 'expiry', NOW + ttl_ms, rec.id)
  redis.call('PEXPIRE', P .. 'job:' .. rec.id, ttl_ms)
  redis.call('PEXPIRE', P .. 'args:' .. rec.id, ttl_ms)
  redis.call('PEXPIRE', P .. 'log:' .. rec.id, ttl_ms)
  redis.call('PEXPIRE', P .. 'artifacts:' .. rec.id, ttl_ms)
  redis.call('PEXPIRE', P .. 'bodies:' .. rec.id, ttl_ms)
  if state == 'failed' then note_failure(rec, data.error or {}) end
  if state == 'succeeded' and string.find(rec.spec, '"retry_of":', 1, true) then note_healed(rec.spec) end
  if rec.after then settle(rec, state, data, ttl_ms) end
  if string.byte(rec.id) == 115 then schedule_ended(rec, state) end -- "s..." is the id of a schedule's job
  if rec.terms then
    once_ended(rec, state, ttl_ms, data.cached)
    pump()
  end
end

-- A job that waited for others has all it needs: it is queued, or goes on to wait for its time.
local freed = 0
local function free_to_run(rec)
  redis.call('HDEL', P .. 'job:' .. rec.id, 'waits')
  rec.waits = false
  local due = tonumber(redis.call('HGET', P .. 'job:' .. rec.id, 'due') or 0)
  if due > NOW then
    redis.call('ZADD', P .. 'due:' .. rec.queue, due, rec.id)
    local worker = idlest(rec.queue) -- it must learn of the earlier time
    if worker then redis.call('PUBLISH', P .. 'inbox:' .. worker.id, 'W') end
    return
  end
  move(rec, 'queued')
  emit(rec, 'queued', {state = 'queued'}, {'state', 'queued'})
  ready(rec, NOW_US + freed) -- those that one job frees keep their order
  freed = freed + 1
end

-- A job whose need will never be there ends. `why` follows "job ... (task), whose result it needs, ".
local function fail_for(rec, need, task, why, ttl_ms)
  local name = 'job ' .. need .. (task and ' (' .. task .. ')' or '')
  local err = {kind = 'dependency', type = 'dependency', traceback = '', where = '',
    message = name .. ', whose result it needs, ' .. why}
  conclude(rec, 'failed', 'failed', {error = err}, {'error', cjson.encode(err)}, kept_ms(rec, ttl_ms))
end

-- Why a job that has ended gives no result, or nil where it gives one.
local function no_result(state, error)
  if state == 'succeeded' then return nil end
  if state == 'cancelled' then return 'was cancelled' end
  if state ~= 'failed' then return 'is not kept: it was removed, or has expired' end
  if not error then return 'failed' end
  local text = error.kind == 'exception' and error.type .. ': ' .. error.message or error.message
  local first = string.match(text, '^[^\n]*')
  first = error.kind == 'dependency' and string.match(first, 'cannot run: (.*)$') or first -- what began it is enough
  if #first > 300 then first = string.gsub(string.sub(first, 1, 300), '[\128-\255]*$', '') .. '...' end
  return (error.kind == 'dependency' and 'cannot run: ' or 'failed: ') .. first
end

-- Those that wait for the result of a job that has ended. A list and not a recursion: chains may be long.
local ended, is_settling = {}, false
settle = function(rec, state, data, ttl_ms)
  ended[#ended + 1] = {rec = rec, state = state, error = data.error, ttl_ms = ttl_ms}
  if is_settling then return end
  is_settling = true
  local done = 0
  while done < #ended do
    done = done + 1
    local one = ended[done]
    ended[done] = false
    local key = P .. 'after:' .. one.rec.id
    local why = no_result(one.state, one.error)
    local task = why and object(one.rec.spec).task
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      local follower = read(id)
      if follower and follower.waits then
        if why then
          fail_for(follower, one.rec.id, task, why, one.ttl_ms)
        elseif redis.call('HINCRBY', P .. 'job:' .. id, 'waits', -1) <= 0 then
          free_to_run(follower)
        end
      end
    end
    redis.call('DEL', key)
  end
  ended, is_settling = {}, false
end

-- A waiting job is cancelled here and now; the worker of a running one is told.
local function ask_to_stop(rec, reason, ttl_ms)
  if rec.state == 'queued' or rec.state == 'scheduled' then
    conclude(rec, 'cancelled', 'cancelled', {reason = reason}, {}, kept_ms(rec, ttl_ms))
  elseif rec.state == 'running' then
    if not rec.cancel then emit(rec, 'cancel_requested', {cancel = NOW, reason = reason}, {'cancel', NOW}) end
    redis.call('PUBLISH', P .. 'inbox:' .. rec.worker, 'C' .. rec.id)
  end
end

-- How a job lost its workers, a line for each; `last` is not among its events yet.
local function deaths(rec, last)
  local found = {}
  for seq = 1, rec.seq do
    local kept = redis.call('HGET', P .. 'job:' .. rec.id, 'e' .. seq)
    local event = kept and object(kept)
    if event and event.type == 'lost' then found[#found + 1] = event.data.reason end
  end
  found[#found + 1] = last
  return table.concat(found, '\n')
end

-- A lease ran out: the worker died, or was away for too long. Or the worker says so itself (`where`): what it ran the
-- attempt in died under it. The job goes back to its old place in the line, or ends here.
local function lose(rec, max_losses, ttl_ms, where, usage)
  redis.call('ZREM', P .. 'leases', rec.id)
  if rec.arq then arq_return(rec) end
  if rec.terms then leave_places(rec) end
  rec.losses = rec.losses + 1
  ttl_ms = kept_ms(rec, ttl_ms)
  where = where or 'worker ' .. rec.worker .. ' died or lost contact while it ran attempt ' .. rec.attempt
  if rec.cancel then
    conclude(rec, 'cancelled', 'cancelled', {losses = rec.losses, reason = 'cancelled; its ' .. where, usage = usage},
      {'losses', rec.losses}, ttl_ms)
  elseif rec.losses >= max_losses or wish(rec, 'on_lost') == 'fail' then
    local err = {kind = 'lost', type = 'lost', traceback = deaths(rec, where), where = '',
      message = rec.losses >= max_losses and 'its workers died ' .. rec.losses .. ' times while running it; last, ' .. where
        or where .. "; it is not run again, since it was submitted with on_lost='fail'"}
    conclude(rec, 'failed', 'failed', {losses = rec.losses, error = err, usage = usage},
      {'losses', rec.losses, 'error', cjson.encode(err)}, ttl_ms)
  else
    move(rec, 'queued')
    emit(rec, 'lost', {state = 'queued', losses = rec.losses, reason = where, usage = usage},
      {'state', 'queued', 'losses', rec.losses, 'token', ''})
    ready(rec, rec.us)
    if rec.terms then pump() end
  end
end

-- When any worker was last heard of.
local function last_beat()
  return tonumber(redis.call('ZRANGE', P .. 'workers', -1, -1, 'WITHSCORES')[2])
end

-- When no worker could write for so long that leases of the living may be over (a machine that slept, a server that was
-- frozen, full or cut off), they get time to renew before anybody's job counts as lost. A lease may be a beat old when the
-- silence begins, so two thirds of one are long enough; less than 5.5 s is a busy machine. Returns when that time is
-- over, or 0.
local function waits_until(beat, lease_ms)
  local until_ms = tonumber(redis.call('GET', P .. 'grace') or 0)
  if until_ms > NOW then return until_ms end
  if not beat or NOW - beat <= math.min(lease_ms + 5000, math.max(5500, lease_ms * 2 / 3)) then return 0 end
  local grace_ms = math.floor(lease_ms / 2) + 1000 -- a worker beats at least twice in a lease
  redis.call('SET', P .. 'grace', NOW + grace_ms, 'PX', grace_ms)
  redis.call('ZADD', P .. 'workers', 'XX', NOW, redis.call('ZRANGE', P .. 'workers', -1, -1)[1]) -- once for each silence
  return NOW + grace_ms
end

-- Jobs whose lease is over. When Redis itself has only just come back, or all workers have, they get time to renew first;
-- then this returns the moment when that time is over, so that nobody asks again and again until then, else 0.
local function recover(limit, lease_ms, max_losses, ttl_ms, beat)
  local ids = redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', NOW, 'LIMIT', 0, limit)
  if #ids == 0 then return 0 end
  local again = waits_until(beat or last_beat(), lease_ms)
  if again > 0 then return again end
  local uptime = tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)'))
  if uptime * 1000 < 2 * lease_ms + 2000 then
    -- An uptime that young is normal for a fresh server too; only a lease older than the server can be a victim.
    -- Redis counts whole seconds from the whole second in which it started: that moment is the earliest it may be.
    local born = (math.floor(NOW / 1000) - uptime) * 1000
    local young = {}
    for _, id in ipairs(ids) do
      local started = tonumber(redis.call('HGET', P .. 'job:' .. id, 'started') or 0)
      if started > born then young[#young + 1] = id else again = NOW - uptime * 1000 + 2 * lease_ms + 2000 end
    end
    ids = young
  end
  local lost = {}
  for _, id in ipairs(ids) do
    local rec = read(id)
    if rec and rec.state == 'running' then
      lost[#lost + 1] = rec
      -- It may only be frozen, and then still has a channel: it would be given this very job again.
      unregister(rec.worker, redis.call('HGET', P .. 'worker:' .. rec.worker, 'queues'))
    else
      redis.call('ZREM', P .. 'leases', id)
    end
  end
  for _, rec in ipairs(lost) do lose(rec, max_losses, ttl_ms) end
  return again
end

-- Scheduled jobs whose time has come. They wait since then, whenever that is noticed.
local function promote(queue, limit)
  local found = redis.call('ZRANGEBYSCORE', P .. 'due:' .. queue, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #found, 2 do
    local id = found[i]
    redis.call('ZREM', P .. 'due:' .. queue, id)
    local gate = string.match(id, '^!(.*)$') -- no job: a limit by rate lets another one start
    local rec = not gate and read(id)
    if gate then
      redis.call('HDEL', P .. 'armed', gate)
      hold()
      pump(gate)
    elseif rec and rec.state == 'scheduled' then
      move(rec, 'queued')
      emit(rec, 'queued', {state = 'queued'}, {'state', 'queued'})
      ready(rec, tonumber(found[i + 1]) * 1000)
    end
  end
end

-- Everything a job owns, gone. Its files are litter from now on: a worker, which reaches them, removes them.
local function forget(id)
  local last = redis.call('HMGET', P .. 'job:' .. id, 'after', 'state', 'spec')
  if last[1] and last[2] ~= 'succeeded' and last[2] ~= 'failed' and last[2] ~= 'cancelled' then
    settle({id = id, spec = last[3]}, 'removed', {}, 604800000)
  end
  redis.call('DEL', P .. 'job:' .. id, P .. 'args:' .. id, P .. 'result:' .. id, P .. 'preview:' .. id, P .. 'log:' .. id,
    P .. 'artifacts:' .. id, P .. 'bodies:' .. id)
  local folder = redis.call('HGET', P .. 'filed', id)
  if folder then
    redis.call('HDEL', P .. 'filed', id)
    redis.call('SADD', P .. 'litter', folder)
  end
  redis.call('ZREM', P .. 'jobs', id)
  redis.call('ZREM', P .. 'expiry', id)
  for _, state in ipairs({'succeeded', 'cancelled'}) do redis.call('ZREM', P .. 'state:' .. state, id) end
  if redis.call('ZREM', P .. 'state:failed', id) == 1 then leave_group(id) end
end
