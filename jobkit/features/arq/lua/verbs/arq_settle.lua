-- Stores the results, for arq's readers, of jobs that ended without their worker. args: key of the queue, then for each:
-- arq's id, result, ttl_ms. A job that another worker has settled stays as it is.
verb('arq_settle', ALSO_WHEN_FULL, function(args)
  for i = 2, #args, 3 do
    if call('HEXISTS', P .. 'arq-ended:' .. args[1], args[i]) == 1 then
      Arq.clear(args[1], args[i], args[i + 1], tonumber(args[i + 2]), 0)
    end
  end
  return 0
end)
