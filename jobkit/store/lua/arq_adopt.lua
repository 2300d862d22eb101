-- Gives members of a queue of arq's their records. ARGV: key of the queue, name of the queue here, then for each: arq's id,
-- id, spec, payload, tries it has had. Returns 1 for each that has one now; 0 where the member is gone, somebody was
-- quicker, or the id is taken.
local arq_queue, queue = ARGV[1], ARGV[2]
local tracked = P .. 'arq:' .. arq_queue
local answers = {}
redis.call('SADD', P .. 'queues', queue)
for i = 3, #ARGV, 5 do
  local arq, id, spec = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  -- The score is asked for again: an abort makes a deferred job due at once.
  local score = tonumber(redis.call('ZSCORE', arq_queue, arq))
  if not score or redis.call('HEXISTS', tracked, arq) == 1 or redis.call('EXISTS', P .. 'job:' .. id) == 1
    or redis.call('EXISTS', 'arq:in-progress:' .. arq) == 1 then
    answers[#answers + 1] = 0
  else
    local state = score > NOW and 'scheduled' or 'queued'
    local us = NOW_US + #answers
    local rec = {id = id, state = state, seq = 0, queue = queue, client = false, attempt = 0, us = us, retried = 0,
      losses = 0, releases = 0, priority = 0, spec = spec, arq = arq}
    local set = {'state', state, 'spec', spec, 'queue', queue, 'us', us, 'submitted', NOW, 'arq', arq, 'arqq', arq_queue,
      'arqt', ARGV[i + 4]}
    local data = {state = state, submitted = NOW}
    if state == 'scheduled' then set[#set + 1] = 'due'; set[#set + 1] = score; data.due = score end
    if redis.call('ZSCORE', P .. 'jobs', id) then forget(id) end
    redis.call('SET', P .. 'args:' .. id, ARGV[i + 3])
    redis.call('ZADD', P .. 'jobs', us, id)
    redis.call('ZADD', P .. 'state:' .. state, us, id)
    redis.call('HSET', tracked, arq, id)
    redis.call('PERSIST', 'arq:job:' .. arq) -- its readers want it until the job ends; when it expires, the call says
    emit(rec, 'submitted', data, set)
    if state == 'scheduled' then
      redis.call('ZADD', P .. 'due:' .. queue, score, id)
      local worker = idlest(queue)
      if worker then redis.call('PUBLISH', P .. 'inbox:' .. worker.id, 'W') end
    else
      ready(rec, score * 1000)
    end
    answers[#answers + 1] = 1
  end
end
return answers
