-- Notes what a reader cannot decode. args: name (see Damage), why, for each. Returns 1.
verb('report', ALSO_WHEN_FULL, function(args)
  for i = 1, #args, 2 do Damage.note(args[i], args[i + 1]) end
  return 1
end)
