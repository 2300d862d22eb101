-- Asks people a question for a running attempt. args: id, token, key, text (shortened), timeout (ms; -1 for none), sealed question.
-- Returns what Questions.ask does, or 'gone' if the token does not hold any more.
verb('ask', ALSO_WHEN_FULL, function(args)
  local rec, timeout_ms = Records.read(args[1]), tonumber(args[5])
  if not rec or rec.state ~= 'running' or rec.token ~= args[2] then return {'gone', ''} end
  return Questions.ask(rec, args[3], args[4], timeout_ms >= 0 and timeout_ms or nil, args[6])
end)
