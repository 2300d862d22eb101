-- Forgets terminal jobs. ARGV: id... Returns 1 for each that is gone now.
exceed_memory()
local gone = {}
for _, id in ipairs(ARGV) do
  local rec = read(id)
  local ended = rec and (rec.state == 'succeeded' or rec.state == 'failed' or rec.state == 'cancelled')
  if ended then
    emit(rec, 'deleted', {reason = 'removed'}, {})
    forget(id)
  end
  gone[#gone + 1] = ended and 1 or 0
end
return gone
