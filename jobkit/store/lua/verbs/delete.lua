-- Deletes terminal jobs. args: id... Returns 1 for each that is gone now.
verb('delete', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 1, 0, function(i)
    local rec = Records.read(args[i])
    if not rec or not IS_OVER[rec.state] then return 0 end
    Records.emit(rec, 'deleted', {reason = 'removed'}, {})
    Records.forget(rec.id)
    return 1
  end)
end)
