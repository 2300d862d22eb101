-- The subscribers of HTTP's hub that are there now, each as id and record.
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'subs:ends', '(' .. NOW, '+inf', 'LIMIT', 0, 20000)) do
  found[#found + 1], found[#found + 2] = id, redis.call('HGET', P .. 'subs', id) or ''
end
return found
