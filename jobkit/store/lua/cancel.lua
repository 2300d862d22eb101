-- Asks jobs to stop. ARGV: reason, ttl_ms, id... Returns the state each is in now, or "" for an unknown one.
local states = {}
for i = 3, #ARGV do
  local rec = read(ARGV[i])
  if rec and (rec.state == 'queued' or rec.state == 'scheduled') then
    conclude(rec, 'cancelled', 'cancelled', {reason = ARGV[1]}, {}, kept_ms(rec, tonumber(ARGV[2])))
  elseif rec and rec.state == 'running' then
    if not rec.cancel then
      emit(rec, 'cancel_requested', {cancel = NOW, reason = ARGV[1]}, {'cancel', NOW})
    end
    redis.call('PUBLISH', P .. 'inbox:' .. rec.worker, 'C' .. rec.id)
  end
  states[#states + 1] = rec and rec.state or ''
end
return states
