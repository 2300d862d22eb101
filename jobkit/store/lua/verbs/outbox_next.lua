-- The next jobs for the archive, see Outbox. args: limit. Returns {part, entries}.
verb('outbox_next', ALSO_WHEN_FULL, function(args)
  return Outbox.next_part(args[1])
end)
