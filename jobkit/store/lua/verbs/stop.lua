-- Asks workers to end. args: how ("drain": finish running jobs within their drain time; "retire": however long they take;
-- "now": give them back), worker... Returns how many there were. A worker whose connection is cut learns
-- of it by its next heartbeat.
verb('stop', ALSO_WHEN_FULL, function(args)
  local asked = 0
  for i = 2, #args do
    local key = P .. 'worker:' .. args[i]
    local queues = call('HGET', key, 'queues')
    if queues then
      Queue.unregister(args[i], queues)
      call('HSET', key, 'stop', args[1])
      call('PUBLISH', P .. 'inbox:' .. args[i], 'S' .. args[1])
      asked = asked + 1
    end
  end
  return asked
end)
