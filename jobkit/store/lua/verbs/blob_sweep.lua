-- Drops what jobs and schedules used that verbs of an earlier version have deleted. args: cursor of HSCAN. Returns the next one.
verb('blob_sweep', ALSO_WHEN_FULL, function(args)
  local found = call('HSCAN', P .. 'blobs', args[1], 'COUNT', 200)
  for i = 1, #found[2], 2 do
    local user = found[2][i]
    local schedule = string.match(user, '^schedule (.*)$')
    local is_kept
    if schedule then
      is_kept = call('EXISTS', P .. 'schedule:' .. schedule) == 1
    else
      is_kept = call('ZSCORE', P .. 'jobs', user) or call('EXISTS', P .. 'job:' .. user) == 1
    end
    if not is_kept then Blobs.leave(user) end
  end
  return found[1]
end)
