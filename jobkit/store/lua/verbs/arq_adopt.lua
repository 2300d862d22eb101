-- Gives members of a queue of arq's their records. args: key of the queue, name of the queue here, then for each: arq's id,
-- id, spec, payload, tries it has had. Returns 1 for each that has one now; 0 if the member is gone, has a record already, or
-- the id is taken.
verb('arq_adopt', UNLESS_FULL, function(args)
  local arq_queue, queue = args[1], args[2]
  local tracked = P .. 'arq:' .. arq_queue
  local answers = {}
  call('SADD', P .. 'queues', queue)
  for i = 3, #args, 5 do
    local arq, id, spec = args[i], args[i + 1], args[i + 2]
    -- The score is asked for again: an abort makes a deferred job due at once.
    local score = tonumber(call('ZSCORE', arq_queue, arq))
    if not score or call('HEXISTS', tracked, arq) == 1 or call('EXISTS', P .. 'job:' .. id) == 1
      or call('EXISTS', 'arq:in-progress:' .. arq) == 1 then
      answers[#answers + 1] = 0
    else
      local state = score > NOW and 'scheduled' or 'queued'
      local us = NOW_US + #answers
      local rec = {id = id, state = state, seq = 0, queue = queue, client = false, attempt = 0, us = us, retried = 0,
        losses = 0, releases = 0, priority = 0, spec = spec, arq = arq}
      local set = {'state', state, 'spec', spec, 'queue', queue, 'us', us, 'submitted', NOW, 'arq', arq, 'arqq', arq_queue,
        'arqt', args[i + 4]}
      local data = {state = state, submitted = NOW}
      if state == 'scheduled' then set[#set + 1] = 'due'; set[#set + 1] = score; data.due = score end
      if call('ZSCORE', P .. 'jobs', id) then Records.forget(id) end
      call('SET', P .. 'args:' .. id, args[i + 3])
      call('ZADD', P .. 'jobs', us, id)
      call('ZADD', P .. 'state:' .. state, us, id)
      call('HSET', tracked, arq, id)
      call('PERSIST', 'arq:job:' .. arq) -- its readers want it until the job ends; when it expires, the call says
      Records.emit(rec, 'submitted', data, set)
      if state == 'scheduled' then
        call('ZADD', P .. 'due:' .. queue, score, id)
        Queue.wake(queue)
      else
        Queue.ready(rec, score * 1000)
      end
      answers[#answers + 1] = 1
    end
  end
  return answers
end)
