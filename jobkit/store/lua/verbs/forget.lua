-- Deletes what is left of jobs whose record is gone or unreadable. args: id...
verb('forget', ALSO_WHEN_FULL, function(args)
  for _, id in ipairs(args) do
    local found = try('HGET', P .. 'job:' .. id, 'spec')
    if type(found) ~= 'string' then Records.forget(id) end
  end
  return 1
end)
