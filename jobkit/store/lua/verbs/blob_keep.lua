-- Keeps large parts of calls. args: name, content ("" to look only), for each. Returns for each what Blobs.keep returns.
verb('blob_keep', UNLESS_FULL, function(args)
  return each(args, 1, 2, 0, function(i) return Blobs.keep(args[i], args[i + 1]) end)
end)
