-- The archive has a part, see Archive. args: part. Returns 1, or 0 if it was told before.
verb('archive_done', ALSO_WHEN_FULL, function(args)
  return Archive.done(args[1])
end)
