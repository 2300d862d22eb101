-- Leaves the results of running attempts for arq's readers, until finish.lua ends the jobs in the same moment. ARGV: for
-- each: id, token, ttl_ms (0: it is not kept, below: for ever), hold_ms (see arq_clear), result. Returns 1 where the token
-- holds.
local answers = {}
for i = 1, #ARGV, 5 do
  local rec = redis.call('HMGET', P .. 'job:' .. ARGV[i], 'token', 'state')
  local holds = rec[1] == ARGV[i + 1] and rec[2] == 'running'
  if holds then
    local head = ARGV[i + 2] .. ' ' .. ARGV[i + 3] .. '\n'
    redis.call('SET', P .. 'arq-result:' .. ARGV[i], head .. ARGV[i + 4], 'PX', 3600000)
  end
  answers[#answers + 1] = holds and 1 or 0
end
return answers
