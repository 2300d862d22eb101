-- Goes on with the followers of jobs that have ended, which calls have left over. args: ttl_ms. Returns 1 if some are left over
-- still, else 0.
verb('settle', ALSO_WHEN_FULL, function(args)
  Followers.look_after(tonumber(args[1]))
  return left
end)
