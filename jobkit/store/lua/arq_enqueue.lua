-- Enqueues a cron job of arq's, once for its time however many workers do. ARGV: key of the queue, arq's id, whether the id
-- is of this time alone ("1"), score, ttl of the payload in ms, payload. Returns 1 if it did.
if ARGV[3] == '1' and not redis.call('SET', P .. 'arq-slot:' .. ARGV[2], '1', 'NX', 'PX', 86400000) then return 0 end
if redis.call('EXISTS', 'arq:job:' .. ARGV[2], 'arq:result:' .. ARGV[2]) > 0 then return 0 end
redis.call('SET', 'arq:job:' .. ARGV[2], ARGV[6], 'PX', ARGV[5])
redis.call('ZADD', ARGV[1], ARGV[4], ARGV[2])
return 1
