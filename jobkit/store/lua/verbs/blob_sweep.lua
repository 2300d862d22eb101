-- Drops what jobs and others used that verbs of an earlier version have deleted. args: cursor of HSCAN. Returns the next one.
verb('blob_sweep', ALSO_WHEN_FULL, function(args)
  local found = call('HSCAN', P .. 'blobs', args[1], 'COUNT', 200)
  for i = 1, #found[2], 2 do
    local user = found[2][i]
    local kind, name = string.match(user, '^(%a+) (.*)$')
    local is_kept
    if Blobs.users[kind] then
      is_kept = Blobs.users[kind](name)
    else
      is_kept = call('ZSCORE', P .. 'jobs', user) or call('EXISTS', P .. 'job:' .. user) == 1
    end
    if not is_kept then Blobs.leave(user) end
  end
  return found[1]
end)
