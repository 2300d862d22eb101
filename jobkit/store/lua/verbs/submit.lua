-- Stores jobs once each. args: client, then for each job what `Lifecycle.submit` takes.
verb('submit', UNLESS_FULL, function(args)
  return Lifecycle.submit(args[1], args, 2)
end)
