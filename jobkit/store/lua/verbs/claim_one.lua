-- Starts one waiting job whatever its place in the line, its due time and its limits: how `sync://` runs the job that was just
-- submitted. args: worker, id, lease_ms. Returns the message of a claim, "paused" if its queue or task is paused, and ""
-- if it does not wait for a worker.
verb('claim_one', ALSO_WHEN_FULL, function(args)
  local worker, id, lease_ms = args[1], args[2], tonumber(args[3])
  local rec = Records.read(id)
  if not rec or rec.waits or (rec.state ~= 'queued' and rec.state ~= 'scheduled') then return '' end
  local gates, resources = Limits.gates_of(rec)
  for _, gate in ipairs(gates) do
    if gate.paused then return 'paused' end
  end
  Queue.leave(rec)
  if rec.state == 'scheduled' then Queue.enter(rec) end
  if rec.terms or #gates > 0 then rec.gates, rec.resources = gates, resources end
  local message = Queue.start(rec, worker, lease_ms)
  Limits.pump()
  return message or ''
end)
