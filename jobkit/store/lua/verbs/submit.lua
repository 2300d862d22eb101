-- Stores jobs once each. args: client, the batch that they are a part of (JSON, see Batches.join) or "", then for each job what
-- `Lifecycle.submit` takes.
verb('submit', UNLESS_FULL, function(args)
  return Lifecycle.submit(args[1], args, 3, args[2] ~= '' and cjson.decode(args[2]) or nil)
end)
