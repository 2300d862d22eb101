-- Stores jobs once each. ARGV: client, then for each job: id, spec, payload, queue, priority, delay_ms, at_ms.
-- Returns the time of the submit (ms) for each new job, 0 where the id was known; nothing changes then.
local client = ARGV[1]
local created = {}
for i = 2, #ARGV, 7 do
  local id, spec, payload, queue = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key = P .. 'job:' .. id
  if redis.call('EXISTS', key) == 1 then
    created[#created + 1] = 0
  else
    local due = math.max(NOW + tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6]))
    local state = due > NOW and 'scheduled' or 'queued'
    local us = NOW_US + #created -- jobs of one call keep their order
    local rec = {id = id, state = state, seq = 0, queue = queue, client = client, attempt = 0, us = us, retried = 0,
      losses = 0, releases = 0, priority = tonumber(ARGV[i + 4]), spec = spec}
    local set = {'state', state, 'spec', spec, 'queue', queue, 'us', us, 'submitted', NOW}
    local data = {state = state, submitted = NOW}
    if client ~= '' then set[#set + 1] = 'client'; set[#set + 1] = client end
    if rec.priority ~= 0 then set[#set + 1] = 'priority'; set[#set + 1] = rec.priority end
    if state == 'scheduled' then set[#set + 1] = 'due'; set[#set + 1] = due; data.due = due end
    redis.call('SET', P .. 'args:' .. id, payload)
    redis.call('ZADD', P .. 'jobs', us, id)
    redis.call('ZADD', P .. 'state:' .. state, us, id)
    redis.call('SADD', P .. 'queues', queue)
    emit(rec, 'submitted', data, set)
    if state == 'scheduled' then
      redis.call('ZADD', P .. 'due:' .. queue, due, id)
      local worker = idlest(queue) -- it must learn of the earlier time
      if worker then redis.call('PUBLISH', P .. 'inbox:' .. worker.id, 'W') end
    else
      NOW_US = us -- the score in the queue follows the same order
      ready(rec)
    end
    created[#created + 1] = NOW
  end
end
return created
