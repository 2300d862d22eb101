-- Answers a question. args: id, key, sealed answer, name of the user, the answer in brief. Returns what Questions.answer does, or 'unknown'.
verb('answer', ALSO_WHEN_FULL, function(args)
  local rec = Records.read(args[1])
  return rec and Questions.answer(rec, args[2], args[3], args[4], args[5]) or {'unknown'}
end)
