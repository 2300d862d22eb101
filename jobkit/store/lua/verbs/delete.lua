-- Deletes terminal jobs. args: id... Returns 1 for each that is gone now.
verb('delete', ALSO_WHEN_FULL, function(args)
  local gone = {}
  for _, id in ipairs(args) do
    local rec = Records.read(id)
    local ended = rec and (rec.state == 'succeeded' or rec.state == 'failed' or rec.state == 'cancelled')
    if ended then
      Records.emit(rec, 'deleted', {reason = 'removed'}, {})
      Records.forget(id)
    end
    gone[#gone + 1] = ended and 1 or 0
  end
  return gone
end)
