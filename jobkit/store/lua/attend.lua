-- Says that subscribers of HTTP's hub are there. ARGV: for how many ms, then the id and the record (JSON) of each.
-- Gives id and record of those whose time was over, and forgets them: who asks tells everybody that they have left.
local records, ends = P .. 'subs', P .. 'subs:ends'
for i = 2, #ARGV, 2 do
  redis.call('HSET', records, ARGV[i], ARGV[i + 1])
  redis.call('ZADD', ends, NOW + ARGV[1], ARGV[i])
end
local left = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', NOW, 'LIMIT', 0, 1000)) do
  left[#left + 1], left[#left + 2] = id, redis.call('HGET', records, id) or ''
  redis.call('HDEL', records, id)
  redis.call('ZREM', ends, id)
end
-- Where no server is left to say so, both go by themselves.
redis.call('PEXPIRE', records, ARGV[1] * 4)
redis.call('PEXPIRE', ends, ARGV[1] * 4)
return left
