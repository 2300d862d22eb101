-- Puts a batch back whose ended jobs were restored. args: id, record (JSON object of texts), or "" to add further jobs; then
-- place and id of each job. Returns 1, or 0 if the batch exists.
verb('restore_batch', UNLESS_FULL, function(args)
  local members = {}
  for i = 3, #args do members[i - 2] = args[i] end
  return Batches.restore(args[1], args[2] ~= '' and cjson.decode(args[2]) or nil, members)
end)
