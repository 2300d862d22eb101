-- The jobs of studies: their journals, and the trials, which end with them.

Records.KINDS[#Records.KINDS + 1] = 'journal'

on('step', function(rec)
  local count = call('LLEN', P .. 'journal:' .. rec.id)
  if count > 0 then return 'journal ' .. count, 'entry ' .. count .. ' of its journal' end
end)

-- Unless the study has succeeded, its open trials are cancelled.
on('ended', function(rec, state, data, ttl_ms)
  call('PEXPIRE', P .. 'journal:' .. rec.id, ttl_ms)
  if state ~= 'succeeded' and Batches.is_kept(rec.id) then Batches.stop(rec.id, rec.id) end
end, 'studies')
