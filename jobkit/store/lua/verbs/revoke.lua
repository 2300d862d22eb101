-- Revokes an API token, and forgets those that have expired an hour ago. args: its id, when it expires (seconds since the epoch).
-- Also when full: a token that was stolen must be closed at once.
verb('revoke', ALSO_WHEN_FULL, function(args)
  call('ZREMRANGEBYSCORE', P .. 'revoked', '-inf', NOW / 1000 - 3600)
  call('ZADD', P .. 'revoked', args[2], args[1])
end)
