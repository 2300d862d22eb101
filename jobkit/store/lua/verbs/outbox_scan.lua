-- Adds ended jobs that the archive lacks, see Outbox. args: cursor ("0" to begin), limit. Returns the next cursor, "0" at the end.
verb('outbox_scan', ALSO_WHEN_FULL, function(args)
  return Outbox.scan(args[1], args[2])
end)
