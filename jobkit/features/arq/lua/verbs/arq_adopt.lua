-- Gives members of a queue of arq's their records. args: key of the queue, name of the queue here, then for each: arq's id,
-- id, spec, payload, tries it has had. Returns 1 for each that has one now; 0 if the member is gone, has a record already, or
-- the id is taken.
verb('arq_adopt', UNLESS_FULL, function(args)
  local arq_queue, queue = args[1], args[2]
  local tracked = P .. 'arq:' .. arq_queue
  return each(args, 3, 5, 0, function(i)
    local arq, id = args[i], args[i + 1]
    -- The score is asked for again: an abort makes a deferred job due at once.
    local score = tonumber(call('ZSCORE', arq_queue, arq))
    if not score or call('HEXISTS', tracked, arq) == 1 or call('EXISTS', 'arq:in-progress:' .. arq) == 1 then return 0 end
    local rec = Records.new(id, args[i + 2], args[i + 3], queue, 0)
    rec.door, rec.uses, rec.is_new = 'arq', 'arq', false -- arq's users choose ids
    if not Lifecycle.create(rec, score, false, {'door', 'arq', 'uses', 'arq', '_arq', arq, '_arqq', arq_queue, '_arqt', args[i + 4]}) then return 0 end
    call('HSET', tracked, arq, id)
    call('PERSIST', 'arq:job:' .. arq) -- its readers want it until the job ends; when it expires, the call says
    Queue.line_up(rec, score, score * 1000)
    return 1
  end)
end)
