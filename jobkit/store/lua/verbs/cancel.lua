-- Cancels jobs. args: {reason, ttl_ms}, id... Returns the state each is in now, "" for an unknown one.
verb('cancel', ALSO_WHEN_FULL, function(args)
  local options, states = cjson.decode(args[1]), {}
  for i = 2, #args do
    local rec = Records.read(args[i])
    if rec then Lifecycle.cancel(rec, options.reason, options.ttl_ms) end
    states[#states + 1] = rec and rec.state or ''
  end
  return states
end)
