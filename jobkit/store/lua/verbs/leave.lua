-- Unregisters a worker that ends in good order. args: worker, "1" if it still runs jobs: then its record stays. Returns how
-- many jobs were handed to it since it subscribed: some of them may still be on their way.
verb('leave', ALSO_WHEN_FULL, function(args)
  local key = P .. 'worker:' .. args[1]
  local queues = call('HGET', key, 'queues')
  Queue.unregister(args[1], queues)
  Queue.stop_watching(args[1], queues or '')
  local handed = number(call('HGET', key, 'handed'))
  if args[2] == '1' then
    call('HSET', key, 'draining', 1)
  else
    call('DEL', key, P .. 'using:' .. args[1])
    call('ZREM', P .. 'workers', args[1])
  end
  call('ZREM', P .. 'lending', args[1])
  if call('GET', P .. 'room') == args[1] then call('DEL', P .. 'room') end
  return handed
end)
