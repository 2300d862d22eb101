-- Gives a batch a rule, or says that its rule held. args: batch, words, stop ("failed 3", or "" if a job applies the rule), or:
-- batch, job. Returns 1 if the batch is kept, and 1 if something is left over, see Leftover.
verb('batch_rule', ALSO_WHEN_FULL, function(args)
  if args[3] then return {Batches.rule(args[1], args[2], args[3]), Leftover.is_any()} end
  if not Batches.is_kept(args[1]) then return {0, 0} end
  Batches.stop(args[1], args[2])
  return {1, Leftover.is_any()}
end)
