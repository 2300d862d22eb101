-- Returns the subscribers of HTTP's hub, each as id and record.
verb('attending', READS_ONLY, function(args)
  local found = {}
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'subs:ends', '(' .. NOW, '+inf', 'LIMIT', 0, 20000)) do
    found[#found + 1], found[#found + 2] = id, call('HGET', P .. 'subs', id) or ''
  end
  return found
end)
