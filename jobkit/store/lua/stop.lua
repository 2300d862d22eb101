-- Asks workers to end. ARGV: how ("drain": finish running jobs; "now": give them back), worker... Returns how many there
-- were. A worker whose connection is cut learns of it by its next heartbeat.
exceed_memory()
local asked = 0
for i = 2, #ARGV do
  local key = P .. 'worker:' .. ARGV[i]
  local queues = redis.call('HGET', key, 'queues')
  if queues then
    unregister(ARGV[i], queues)
    redis.call('HSET', key, 'stop', ARGV[1])
    redis.call('PUBLISH', P .. 'inbox:' .. ARGV[i], 'S' .. ARGV[1])
    asked = asked + 1
  end
end
return asked
