-- Returns what it takes to find and to order jobs: a list of fields for each id in args, false if it has no record.
verb('briefs', READS_ONLY, function(args)
  local reply = {}
  for i, id in ipairs(args) do
    local rec = try('HMGET', P .. 'job:' .. id, 'spec', 'us', 'seq', 'state', 'queue', 'worker', 'attempt', 'submitted',
      'started', 'finished', 'p', 'error', 'summary')
    reply[i] = not rec.err and rec[1] and rec or false
  end
  return reply
end)
