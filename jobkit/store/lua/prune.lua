-- Forgets jobs whose time is over. ARGV: limit. Returns how many.
exceed_memory()
local ids = redis.call('ZRANGEBYSCORE', P .. 'expiry', '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(ids) do
  redis.call('PUBLISH', P .. 'all',
    cjson.encode({id = id, seq = 0, type = 'deleted', at = NOW, data = {reason = 'expired'}}))
  forget(id)
end
return #ids
