-- Asks jobs to stop. ARGV: reason, ttl_ms, id... Returns the state each is in now, or "" for an unknown one.
exceed_memory()
local states = {}
for i = 3, #ARGV do
  local rec = read(ARGV[i])
  if rec then ask_to_stop(rec, ARGV[1], tonumber(ARGV[2])) end
  states[#states + 1] = rec and rec.state or ''
end
return states
