-- Forgets jobs whose time is over, and where more than `keep` have ended (below 0: however many), those whose time would
-- be over first. ARGV: limit, keep. Returns how many.
exceed_memory()
local limit, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
local ids = redis.call('ZRANGEBYSCORE', P .. 'expiry', '-inf', NOW, 'LIMIT', 0, limit)
local excess = keep < 0 and 0 or redis.call('ZCARD', P .. 'expiry') - keep
if excess > #ids and #ids < limit then ids = redis.call('ZRANGE', P .. 'expiry', 0, math.min(excess, limit) - 1) end
for _, id in ipairs(ids) do
  redis.call('PUBLISH', P .. 'all',
    cjson.encode({id = id, seq = 0, type = 'deleted', at = NOW, data = {reason = 'expired'}}))
  forget(id)
end
return #ids
