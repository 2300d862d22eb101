-- Appends entries to the journal of a running job. args: id, token, number of entries that the caller knows, entry... Entries
-- that are there already are skipped: the call is repeated if its reply was lost. If entries before these are missing, nothing is
-- appended: the server was restored to an older state. A job with a journal may lead the batch that has its id. Returns
-- the number of entries, or -1 if the attempt does not hold any more.
local KEPT_MS = 90 * 86400000 -- after the last entry, until the job has ended

verb('journal', UNLESS_FULL, function(args)
  local job, key, known = P .. 'job:' .. args[1], P .. 'journal:' .. args[1], tonumber(args[3])
  local rec = call('HMGET', job, 'state', 'token', 'leads', 'uses')
  if rec[1] ~= 'running' or rec[2] ~= args[2] then return -1 end
  local count = call('LLEN', key)
  if count < known then return count end
  if not rec[3] then call('HSET', job, 'leads', 1, 'kept', 1, 'uses', (rec[4] and rec[4] .. ' ' or '') .. 'studies') end
  for i = 4 + count - known, #args do count = call('RPUSH', key, args[i]) end
  call('PEXPIRE', key, KEPT_MS)
  return count
end)
