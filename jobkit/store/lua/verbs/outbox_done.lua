-- The archive has a part, see Outbox. args: part. Returns 1, or 0 if it was told before.
verb('outbox_done', ALSO_WHEN_FULL, function(args)
  return Outbox.done(args[1])
end)
