-- Enqueues a cron job of arq's, once for its time however many workers do. args: {queue (its key), id (arq's), is_slot (the
-- id is of this time alone), score, ttl_ms (of the payload)}, payload. Returns 1 if it did.
verb('arq_enqueue', UNLESS_FULL, function(args)
  local options = cjson.decode(args[1])
  local arq = options.id
  if options.is_slot and not call('SET', P .. 'arq-slot:' .. arq, '1', 'NX', 'PX', 86400000) then return 0 end
  if call('EXISTS', 'arq:job:' .. arq, 'arq:result:' .. arq) > 0 then return 0 end
  call('SET', 'arq:job:' .. arq, args[2], 'PX', options.ttl_ms)
  call('ZADD', options.queue, options.score, arq)
  return 1
end)
