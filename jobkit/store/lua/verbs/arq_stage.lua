-- Keeps the results of running attempts for arq's readers until `finish` ends the jobs in the same moment. args: for each:
-- id, token, ttl_ms (0: it is not kept, below: for ever), hold_ms (see Arq.clear), result. Returns 1 if the token holds.
verb('arq_stage', ALSO_WHEN_FULL, function(args)
  local answers = {}
  for i = 1, #args, 5 do
    local rec = call('HMGET', P .. 'job:' .. args[i], 'token', 'state')
    local holds = rec[1] == args[i + 1] and rec[2] == 'running'
    if holds then
      local head = args[i + 2] .. ' ' .. args[i + 3] .. '\n'
      call('SET', P .. 'arq-result:' .. args[i], head .. args[i + 4], 'PX', 3600000)
    end
    answers[#answers + 1] = holds and 1 or 0
  end
  return answers
end)
