-- Goes on with what calls have left over, see Leftover. args: ttl_ms. Returns 1 if something is left over still, else 0.
verb('settle', ALSO_WHEN_FULL, function(args)
  Leftover.go_on(tonumber(args[1]))
  return Leftover.is_any()
end)
