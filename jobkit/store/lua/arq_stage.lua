-- Leaves the result of a running attempt for arq's readers, until finish.lua ends the job in the same moment. ARGV: id,
-- token, ttl_ms (0: it is not kept, below: for ever), hold_ms (see arq_clear), result. Returns 1 where the token holds.
local rec = redis.call('HMGET', P .. 'job:' .. ARGV[1], 'token', 'state')
if rec[1] ~= ARGV[2] or rec[2] ~= 'running' then return 0 end
redis.call('SET', P .. 'arq-result:' .. ARGV[1], ARGV[3] .. ' ' .. ARGV[4] .. '\n' .. ARGV[5], 'PX', 3600000)
return 1
