-- A worker ends in good order. ARGV: worker. Returns how many jobs were handed to it since it subscribed: some of them
-- may still be on their way.
exceed_memory()
local key = P .. 'worker:' .. ARGV[1]
unregister(ARGV[1], redis.call('HGET', key, 'queues'))
local handed = tonumber(redis.call('HGET', key, 'handed') or 0)
redis.call('DEL', key, P .. 'using:' .. ARGV[1])
redis.call('ZREM', P .. 'workers', ARGV[1])
redis.call('ZREM', P .. 'lending', ARGV[1])
return handed
