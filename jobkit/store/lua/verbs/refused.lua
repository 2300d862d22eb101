-- Returns 1 if the server takes a submit just now: a full server, a failing disk or a replica refuses to run it.
verb('refused', UNLESS_FULL, function(args)
  return 1
end)
