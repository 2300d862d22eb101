-- Lists which jobs are kept, newest first, and how far each has come. args: below (a submit time in us, or "+inf"), limit.
-- Returns {last us looked at, or "" at the end; id, us, seq, id, us, seq, ...}.
verb('versions', READS_ONLY, function(args)
  local reply = {''}
  local chunk = call('ZREVRANGEBYSCORE', P .. 'jobs', args[1], '-inf', 'WITHSCORES', 'LIMIT', 0, tonumber(args[2]))
  for i = 1, #chunk, 2 do
    local id, us = chunk[i], string.format('%.0f', chunk[i + 1])
    reply[1] = us
    local seq = try('HGET', P .. 'job:' .. id, 'seq')
    if seq and type(seq) == 'string' then
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3] = id, us, seq
    end
  end
  return reply
end)
