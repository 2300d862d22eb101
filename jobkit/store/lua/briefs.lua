-- What it takes to find and to order jobs. ARGV: id... Returns a list of fields for each, false for what is no record.
local reply = {}
for i, id in ipairs(ARGV) do
  local rec = redis.pcall('HMGET', P .. 'job:' .. id, 'spec', 'us', 'seq', 'state', 'queue', 'worker', 'attempt', 'submitted',
    'started', 'finished', 'p', 'error', 'summary')
  reply[i] = not rec.err and rec[1] and rec or false
end
return reply
