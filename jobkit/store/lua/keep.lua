-- Keeps artifacts of running attempts. ARGV: for each: id, token, name, meta (JSON), body (sealed), folder or "". Returns 1
-- where the token holds. What is kept under a name replaces what was.
exceed_memory()
local answers = {}
for i = 1, #ARGV, 6 do
  local id = ARGV[i]
  local rec = redis.call('HMGET', P .. 'job:' .. id, 'token', 'state')
  local holds = rec[1] == ARGV[i + 1] and rec[2] == 'running'
  if holds then
    redis.call('HSET', P .. 'artifacts:' .. id, ARGV[i + 2], ARGV[i + 3])
    redis.call('HSET', P .. 'bodies:' .. id, ARGV[i + 2], ARGV[i + 4])
    if ARGV[i + 5] ~= '' then redis.call('HSET', P .. 'filed', id, ARGV[i + 5]) end
  end
  answers[#answers + 1] = holds and 1 or 0
end
return answers
