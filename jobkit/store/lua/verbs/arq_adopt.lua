-- Gives members of a queue of arq's their records. args: key of the queue, name of the queue here, then for each: arq's id,
-- id, spec, payload, tries it has had. Returns 1 for each that has one now; 0 if the member is gone, has a record already, or
-- the id is taken.
verb('arq_adopt', UNLESS_FULL, function(args)
  local arq_queue, queue, n = args[1], args[2], -1
  local tracked = P .. 'arq:' .. arq_queue
  call('SADD', P .. 'queues', queue)
  return each(args, 3, 5, function(i)
    local arq, id = args[i], args[i + 1]
    -- The score is asked for again: an abort makes a deferred job due at once.
    local score = tonumber(call('ZSCORE', arq_queue, arq))
    n = n + 1
    if not score or call('HEXISTS', tracked, arq) == 1 or call('EXISTS', P .. 'job:' .. id) == 1
      or call('EXISTS', 'arq:in-progress:' .. arq) == 1 then
      return 0
    end
    local state, us = score > NOW and 'scheduled' or 'queued', NOW_US + n
    call('HSET', tracked, arq, id)
    call('PERSIST', 'arq:job:' .. arq) -- its readers want it until the job ends; when it expires, the call says
    local rec = Lifecycle.create(id, args[i + 2], state, us, queue, 0, args[i + 3], score,
      call('ZADD', P .. 'jobs', 'NX', us, id) == 1, {'arq', arq, 'arqq', arq_queue, 'arqt', args[i + 4]}, nil, arq)
    if state == 'scheduled' then
      call('ZADD', P .. 'due:' .. queue, score, id)
      Queue.wake(queue)
    else
      Queue.ready(rec, score * 1000)
    end
    return 1
  end)
end)
