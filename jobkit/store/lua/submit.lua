-- Stores jobs once each. ARGV: client, then for each job: id, spec, payload, queue, priority, delay_ms, at_ms,
-- needs (ids of the jobs whose results are arguments of this one, comma-separated, each once), terms (JSON of what
-- hold.lua and once.lua look at, "" for a plain job).
-- Returns the time of the submit (ms) for each new job, 0 where the id was known; nothing changes then. Of one with terms
-- perhaps an id, see known_as in once.lua.
local client = ARGV[1]
local created = {}
local first_us = NOW_US
for i = 2, #ARGV, 9 do
  local id, spec, payload, queue = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key = P .. 'job:' .. id
  local is_there = redis.call('EXISTS', key) == 1
  local known, other
  if ARGV[i + 8] ~= '' then
    hold()
    known, other = known_as(object(ARGV[i + 8]), id, is_there)
  end
  if known then
    if other then
      local due = math.max(NOW + tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6]))
      replace(other, spec, payload, queue, ARGV[i + 4], due, ARGV[i + 8])
    end
    created[#created + 1] = known
  elseif is_there then
    created[#created + 1] = 0
  else
    local due = math.max(NOW + tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6]))
    local needs = ARGV[i + 7]
    if other then due, needs = NOW, '' end
    local state = (due > NOW or needs ~= '') and 'scheduled' or 'queued'
    local us = first_us + #created -- jobs of one call keep their order
    local rec = {id = id, state = state, seq = 0, queue = queue, client = client, attempt = 0, us = us, retried = 0,
      losses = 0, releases = 0, priority = tonumber(ARGV[i + 4]), spec = spec, worker = '',
      terms = ARGV[i + 8] ~= '' and ARGV[i + 8] or false}
    local set = {'state', state, 'spec', spec, 'queue', queue, 'us', us, 'submitted', NOW}
    local data = {state = state, submitted = NOW}
    if client ~= '' then set[#set + 1] = 'client'; set[#set + 1] = client end
    if rec.priority ~= 0 then set[#set + 1] = 'priority'; set[#set + 1] = rec.priority end
    if rec.terms then set[#set + 1] = 'terms'; set[#set + 1] = rec.terms end
    if due > NOW then set[#set + 1] = 'due'; set[#set + 1] = due; data.due = due end
    -- Still in the index: an ended job of this id expired and was not pruned yet. What is left of it must go now, or
    -- its entry in `expiry` would take the new job with it.
    if redis.call('ZSCORE', P .. 'jobs', id) then forget(id) end
    redis.call('SET', P .. 'args:' .. id, payload)
    redis.call('ZADD', P .. 'jobs', us, id)
    redis.call('ZADD', P .. 'state:' .. state, us, id)
    redis.call('SADD', P .. 'queues', queue)
    if string.find(spec, '"retry_of":', 1, true) then note_repeat(spec) end
    rec.client = nil -- the answer tells the submitter as much
    emit(rec, 'submitted', data, set)
    rec.client = client
    if rec.terms then
      local once = object(rec.terms).once
      if once then redis.call('SET', P .. 'once:' .. once.key, id) end
      if once and once.scope == 'time' then redis.call('PEXPIRE', P .. 'once:' .. once.key, once.ms) end
    end
    if other then
      end_as(rec, other)
    elseif needs ~= '' then
      local open, broken = {}, nil
      for need in string.gmatch(needs, '[^,]+') do
        local found = redis.call('HMGET', P .. 'job:' .. need, 'state', 'spec', 'error')
        local has_ended = not found[1] or found[1] == 'succeeded' or found[1] == 'failed' or found[1] == 'cancelled'
        if not has_ended then
          open[#open + 1] = need
        elseif found[1] ~= 'succeeded' and not broken then
          broken = {need, found[2] and cjson.decode(found[2]).task or nil,
            no_result(found[1] or 'removed', found[3] and cjson.decode(found[3]) or nil)}
        end
      end
      if broken then
        fail_for(rec, broken[1], broken[2], broken[3], 604800000)
      elseif #open == 0 then
        free_to_run(rec)
      else
        redis.call('HSET', key, 'waits', #open)
        for _, need in ipairs(open) do
          redis.call('ZADD', P .. 'after:' .. need, us, id)
          redis.call('HSET', P .. 'job:' .. need, 'after', 1)
        end
      end
    elseif state == 'scheduled' then
      -- Jobs of one call and one due time keep their order by the fraction of a millisecond.
      redis.call('ZADD', P .. 'due:' .. queue, due + math.min(#created, 2000) / 2048, id)
      local worker = idlest(queue) -- it must learn of the earlier time
      if worker then redis.call('PUBLISH', P .. 'inbox:' .. worker.id, 'W') end
    else
      ready(rec, us)
    end
    created[#created + 1] = other and id or NOW
  end
end
return created
