-- Same work once. What a job's `terms` say of it:
--   once {key, scope, ms, but}: `once:{key}` is the id of the job that stands for this work: while it waits ("queued"), until
--     it ends ("active"), for `ms` from its submit ("time"), or while it waits to be replaced ("debounce"). `but` is the job
--     that this one repeats, which never stands for it.
--   cache {key, ms}: `cache:{key}` is the id of the job whose kept result is that of this work, for `ms` from its end.

-- The record of the job that stands for the work, or nil if no job does any more.
local function standing_for(once)
  local id = call('GET', P .. 'once:' .. once.key)
  if not id or id == once.but then return nil end
  local rec = Records.read(id)
  if not rec then return nil end
  local waits = rec.state == 'scheduled' or rec.state == 'queued'
  if once.scope == 'queued' then return waits and rec or nil end
  if once.scope == 'active' then return not IS_OVER[rec.state] and rec or nil end
  if once.scope == 'debounce' then return rec.state == 'scheduled' and not rec.waits and rec.attempt == 0 and rec or nil end
  return rec
end

-- Another submit replaces a waiting job: its arguments, from its time on. The caller lines it up.
function Dedup.replace(rec, spec, payload, queue, priority, due, terms, blobs)
  Queue.leave(rec)
  Blobs.use(rec.id, blobs or {})
  call('SET', P .. 'args:' .. rec.id, payload)
  call('SADD', P .. 'queues', queue)
  rec.queue, rec.priority, rec.spec, rec.terms = queue, priority, spec, terms
  -- The spec as it came: decoded and encoded again, an empty list would be an object.
  local data = '{"state":"scheduled","due":' .. string.format('%.0f', due) .. ',"asked":' .. spec .. '}'
  Records.emit(rec, 'submitted', data,
    {'spec', spec, 'queue', queue, 'priority', priority, 'due', due, 'terms', terms})
end

-- What the reply to a submit is if it is no new job: {"is", id} for the job that it already is; {"seal for", id} for the job
-- whose place it may take once its arguments are sealed for that id ("": the job that it was sealed for has started
-- meanwhile, so it has to come with a new id). nil for a new job. Beside {"is", id} perhaps the waiting record that it
-- replaces, beside nil the ended one whose result it has.
function Dedup.find(terms, id, is_there)
  local once = terms.once
  if once then
    local rec = standing_for(once)
    if rec and once.scope ~= 'debounce' then return {'is', rec.id} end
    if rec and rec.id ~= id then return {'seal for', rec.id} end
    if rec then return {'is', id}, rec end
    if is_there and once.scope == 'debounce' then return {'seal for', ''} end
  end
  if terms.cache and not terms.cache.fresh then
    local source = call('GET', P .. 'cache:' .. terms.cache.key)
    local rec = source and Records.read(source)
    if rec and rec.state == 'succeeded' and call('EXISTS', P .. 'result:' .. source) == 1 then return nil, rec end
  end
end

-- A new job with another one's kept result: it ends as it begins, and is kept no longer than that one.
function Dedup.end_as(rec, source)
  local summary = call('HGET', source.key, 'summary') or ''
  local left_ms = math.floor((tonumber(call('ZSCORE', P .. 'expiry', source.id)) or 0) - NOW)
  local ttl_ms = math.min(Records.kept_ms(rec, 604800000), left_ms > 0 and left_ms or 604800000)
  Lifecycle.conclude(rec, 'succeeded', {cached = source.id, summary = summary},
    {'cached', source.id, 'summary', summary}, ttl_ms)
end

-- A new job stands for its work from now on.
function Dedup.submitted(rec)
  local once = object(rec.terms).once
  if once then call('SET', P .. 'once:' .. once.key, rec.id) end
  if once and once.scope == 'time' then call('PEXPIRE', P .. 'once:' .. once.key, once.ms) end
end

-- With the end of a job.
function Dedup.ended(rec, state, ttl_ms, is_cached)
  local terms = object(rec.terms)
  local once, cache = terms.once, terms.cache
  if once and once.scope ~= 'time' and call('GET', P .. 'once:' .. once.key) == rec.id then
    call('DEL', P .. 'once:' .. once.key)
  end
  if cache and state == 'succeeded' and not is_cached and call('EXISTS', P .. 'result:' .. rec.id) == 1 then
    call('SET', P .. 'cache:' .. cache.key, rec.id, 'PX', math.min(cache.ms, ttl_ms))
  end
end
