-- A worker ends in good order. ARGV: worker.
local key = P .. 'worker:' .. ARGV[1]
unregister(ARGV[1], redis.call('HGET', key, 'queues'))
redis.call('DEL', key)
redis.call('ZREM', P .. 'workers', ARGV[1])
return 1
