-- The record of a job: read, changed together with the event that says so, deleted.

local EVENTS_KEPT = 20000 -- numbered events of the namespace, for subscribers that were away
local HISTORY_HEAD, HISTORY_TAIL = 20, 180 -- numbered events kept with a record

-- The keys of a job, to which features add theirs; those of `KEPT` only if its record says that something is `kept`.
Records.KINDS = {'job', 'args', 'result', 'preview', 'log', 'artifacts', 'bodies'}
Records.KEPT = {'artifacts', 'bodies'}

-- A feature keeps a key of this kind for jobs.
function Records.also_keep(kind)
  Records.KINDS[#Records.KINDS + 1], Records.KEPT[#Records.KEPT + 1] = kind, kind
end

-- The record of a job, or nil; also nil if it is damaged, so that it blocks no queue. Counters are numbers; fields that are not
-- set are false.
function Records.read(id)
  local key = P .. 'job:' .. id
  local found = call('HMGET', key, 'state', 'seq', 'queue', 'client', 'token', 'attempt', 'us', 'cancel',
    'retried', 'losses', 'releases', 'priority', 'fin', 'worker', 'spec', 'door', 'waits', 'after', 'terms', 'logn', 'kept',
    'alone', 'suspect', 'batch', 'uses')
  if not found[1] and call('EXISTS', key) == 0 then return nil end
  local rec = {
    id = id, key = key, state = found[1], seq = found[2] and number(found[2]), queue = found[3], client = found[4], token = found[5],
    attempt = number(found[6]), us = found[7], cancel = found[8], retried = number(found[9]), losses = number(found[10]),
    releases = number(found[11]), priority = number(found[12]), fin = found[13], worker = found[14] or '',
    spec = found[15], door = found[16], waits = found[17], after = found[18], terms = found[19], logn = found[20], kept = found[21],
    alone = number(found[22]), suspect = found[23], batch = found[24], uses = found[25],
  }
  if STATES[rec.state] and rec.seq and rec.spec and rec.queue and number(rec.us) > 0 then return rec end
  Damage.note('job:' .. id, 'it lacks a state, a number of events, a spec, a queue or a time of submit')
end

-- The ids of the jobs that it needs.
function Records.needs(rec)
  local needs, ids = Records.wish(rec, 'needs'), {}
  for _, id in ipairs(type(needs) == 'table' and needs or {}) do
    if type(id) == 'string' then ids[#ids + 1] = id end
  end
  return ids
end

-- The record of a job that this call is going to store. `is_new`: no subscriber knows its id, which is drawn at random by
-- default and so begins with a hexadecimal digit; those of keys and schedules begin with "k" and "s". No client
-- subscribes to an id that it has chosen before the job is stored.
function Records.new(id, spec, payload, queue, priority, terms)
  return {
    id = id, key = P .. 'job:' .. id, spec = spec, payload = payload, queue = queue, priority = priority, terms = terms,
    us = tick(), state = '', seq = 0, attempt = 0, retried = 0, losses = 0, alone = 0, releases = 0, worker = '',
    is_new = #id == 16 and string.byte(id) <= 102,
  }
end

-- The JSON text of an event; `data` is JSON text, too.
function Records.event(id, seq, kind, data)
  return '{"id":"' .. id .. '","seq":' .. seq .. ',"type":"' .. kind .. '","at":' .. NOW .. ',"data":' .. data .. '}'
end

-- Publishes an event of a job; the submitter's own channel first: of two copies, the one with the result is to be applied.
-- The channel of a new job has no subscriber.
function Records.publish(rec, event, rider)
  if rec.client and rec.client ~= '' then
    call('PUBLISH', P .. 'client:' .. rec.client, rider and (event .. '\n' .. rider) or event)
  end
  if not rec.is_new then call('PUBLISH', P .. 'ch:' .. rec.id, event) end
  if rec.batch then Batches.tell(rec.batch, event) end
  call('PUBLISH', P .. 'all', event)
end

-- The JSON text of an event's data; its `usage` is JSON text already.
local function encoded(data)
  local usage = data.usage
  if not usage then return cjson.encode(data) end
  data.usage = nil
  local text = string.sub(cjson.encode(data), 1, -2) .. ',"usage":' .. usage .. '}'
  data.usage = usage
  return text
end

-- Writes the next numbered event and the fields that change with it, then publishes the event.
-- `set` is a flat list of field, value; `data` is what the event carries, or the JSON text of it; `rider` are bytes for the
-- submitter alone. An event that `is_implied` by the record's other fields is not stored with it: `history` in wire.py
-- restores it.
function Records.emit(rec, kind, data, set, rider, is_implied)
  local seq = rec.seq + 1
  rec.seq = seq
  local err = type(data) == 'table' and data.error
  local event = Records.event(rec.id, seq, kind, type(data) == 'table' and encoded(data) or data)
  local kept = event
  if err and err.traceback ~= '' then -- the record's own field has it once
    local traceback, source = err.traceback, err.source
    err.traceback, err.source = '', nil
    kept = Records.event(rec.id, seq, kind, encoded(data))
    err.traceback, err.source = traceback, source
  end
  put(set, 'seq', seq)
  if not is_implied then put(set, 'e' .. seq, kept) end
  call('HSET', rec.key, unpack(set))
  if seq > HISTORY_HEAD + HISTORY_TAIL then call('HDEL', rec.key, 'e' .. (seq - HISTORY_TAIL)) end
  call('XADD', P .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', kept)
  Records.publish(rec, event, rider)
end

-- Something changed that is no job's: groups of failures, what is paused. Subscribers that show such things read them
-- again. It is sent as an event of a job that cannot exist: no id has a space.
function Records.tell_control()
  if first('control') then call('PUBLISH', P .. 'ch:control news', Records.event('control news', 1, 'logged', '{}')) end
end

-- The indexes that pages are read from: one sorted set for each state, by the time of submit.
function Records.move(rec, state)
  call('ZREM', P .. 'state:' .. rec.state, rec.id)
  call('ZADD', P .. 'state:' .. state, rec.us, rec.id)
  if rec.batch then Batches.count(rec.batch, rec.state, state) end
  rec.state = state
end

-- The record of the job `old` names the newest job that runs it again.
function Records.run_again(old, id)
  if type(old) == 'string' and call('EXISTS', P .. 'job:' .. old) == 1 then try('HSET', P .. 'job:' .. old, 'again', id) end
end

-- Notes the number of what an attempt says, in the field `name` of its job; returns false if it said that before. `last` is
-- what the field has: the token and the number of the newest. 0 is no number.
function Records.is_news(key, name, last, token, n)
  if n == '0' then return true end
  if last and string.sub(last, 1, #token + 1) == token .. ' ' and tonumber(n) <= number(string.sub(last, #token + 2)) then
    return false
  end
  call('HSET', key, name, token .. ' ' .. n)
  return true
end

-- What the submitter asked for in the spec, or nil.
function Records.wish(rec, name)
  if not string.find(rec.spec, '"' .. name .. '":', 1, true) then return nil end
  return object(rec.spec)[name]
end

-- The name of the task in a spec, or "". Most begin with it, and need not be decoded.
function Records.task_of(spec)
  local task = string.match(spec, '^{"id":"[^"\\]*","task":"([^"\\]*)"') or object(spec).task
  return type(task) == 'string' and task or ''
end

-- How long to keep a job that no worker ended: its own wish, else the setting.
function Records.kept_ms(rec, ttl_ms)
  local own_s = Records.wish(rec, 'result_ttl_s')
  return type(own_s) == 'number' and math.max(1, math.floor(number(own_s * 1000))) or ttl_ms
end

-- A folder is litter from now on, unless it begins with "=": another server owns it, from which the job was copied.
function Records.leave_files(folder)
  if string.byte(folder) ~= 61 then call('SADD', P .. 'litter', folder) end
end

-- Everything a job owns, gone. Its files are litter from now on: a worker, which reaches them, removes them. `blobs`: large
-- parts that a new job of this id uses.
function Records.forget(id, blobs)
  if call('EXISTS', P .. 'after:' .. id) == 1 then Followers.settle(id, 604800000) end
  local batch, seq = unpack(call('HMGET', P .. 'job:' .. id, 'batch', 'seq'))
  if batch then
    Batches.leave(batch, id)
  elseif not seq then -- it has expired, and may have been of one
    call('ZREM', P .. 'batched', id)
  end
  reached('leaving', id)
  local owned = {}
  for _, kind in ipairs(Records.KINDS) do owned[#owned + 1] = P .. kind .. ':' .. id end
  call('UNLINK', unpack(owned))
  if blobs then Blobs.use(id, blobs) else Blobs.leave(id) end
  local folder = call('HGET', P .. 'filed', id)
  if folder then
    call('HDEL', P .. 'filed', id)
    Records.leave_files(folder)
  end
  call('ZREM', P .. 'jobs', id)
  call('ZREM', P .. 'expiry', id)
  for state in pairs(IS_OVER) do
    if call('ZREM', P .. 'state:' .. state, id) == 1 then reached('deleted', id, state) end
  end
end
