-- Puts keys aside whose type is another one than a command needs. args: key (without the prefix), type, for each. Returns 1.
verb('mend', ALSO_WHEN_FULL, function(args)
  for i = 1, #args, 2 do
    local kind = call('TYPE', P .. args[i]).ok
    if kind ~= 'none' and kind ~= args[i + 1] then Damage.put_aside(P .. args[i]) end
  end
  return 1
end)
