-- Removes what is damaged. args: name (see Damage), for each. Returns 1 for each that was known.
verb('discard', ALSO_WHEN_FULL, function(args)
  return each(args, 1, 1, 0, function(i) return Damage.discard(args[i]) end)
end)
