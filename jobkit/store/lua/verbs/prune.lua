-- Deletes jobs whose time is over, and if more than `keep` have ended, those whose time would be over first.
-- args: {limit, keep (none: however many)}. Returns how many.
verb('prune', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local limit, keep = options.limit, options.keep
  local ids = call('ZRANGEBYSCORE', P .. 'expiry', '-inf', NOW, 'LIMIT', 0, limit)
  local excess = keep and call('ZCARD', P .. 'expiry') - keep or 0
  if excess > #ids and #ids < limit then ids = call('ZRANGE', P .. 'expiry', 0, math.min(excess, limit) - 1) end
  for _, id in ipairs(ids) do
    call('PUBLISH', P .. 'all', Records.event(id, 0, 'deleted', '{"reason":"expired"}'))
    Records.forget(id)
  end
  return #ids
end)
