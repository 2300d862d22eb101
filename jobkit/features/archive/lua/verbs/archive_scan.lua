-- Adds ended jobs that the archive lacks, see Archive. args: cursor ("0" to begin), limit. Returns the next cursor, "0" at the end.
verb('archive_scan', ALSO_WHEN_FULL, function(args)
  return Archive.scan(args[1], args[2])
end)
