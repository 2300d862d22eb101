-- Which jobs are kept, newest first, and how far each has come. ARGV: below (a submit time in us, or "+inf"), limit.
-- Returns {last us looked at, or "" at the end; id, us, seq, id, us, seq, ...}.
local reply = {''}
local chunk = redis.call('ZREVRANGEBYSCORE', P .. 'jobs', ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[2]))
for i = 1, #chunk, 2 do
  local id, us = chunk[i], string.format('%.0f', chunk[i + 1])
  reply[1] = us
  local seq = redis.pcall('HGET', P .. 'job:' .. id, 'seq')
  if seq and type(seq) == 'string' then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = id, us, seq
  end
end
return reply
