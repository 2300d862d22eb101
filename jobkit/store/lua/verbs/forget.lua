-- Deletes what is left of jobs whose record is gone or unreadable. args: id... Returns 1 for each.
verb('forget', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 1, 1, function(i)
    if not call('HGET', P .. 'job:' .. args[i], 'spec') then Damage.drop(args[i]) end
    return 1
  end)
end)
