-- Cancels jobs. args: {reason, ttl_ms, gently (a running one may stop at a safe point), by (name of the caller)}, id...
-- Returns the state each is in now, "" for an unknown one, and last 1 if something is left over, see Leftover.
verb('cancel', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local answers = each(args, 2, 1, '', function(i)
    local rec = Records.read(args[i])
    if rec then Lifecycle.cancel(rec, options.reason, options.ttl_ms, options.gently, options.by) end
    return rec and rec.state or ''
  end)
  answers[#answers + 1] = Leftover.is_any()
  return answers
end)
