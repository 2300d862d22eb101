-- Deletes what is left of jobs whose record is gone or unreadable. args: id... Returns 1 for each.
verb('forget', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 1, function(i)
    local found = try('HGET', P .. 'job:' .. args[i], 'spec')
    if type(found) ~= 'string' then Records.forget(args[i]) end
    return 1
  end)
end)
