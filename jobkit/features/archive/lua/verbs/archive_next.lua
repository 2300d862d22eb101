-- The next jobs for the archive, see Archive. args: limit. Returns {part, entries}.
verb('archive_next', ALSO_WHEN_FULL, function(args)
  return Archive.next_part(args[1])
end)
