-- Reads fields of the records of jobs. args: names (JSON list), id... Returns for each id the list of the fields, false if it
-- has no record with the first of them.
verb('fields', READS_ONLY, function(args)
  local names, reply = cjson.decode(args[1]), {}
  for i = 2, #args do
    local found = try('HMGET', P .. 'job:' .. args[i], unpack(names))
    reply[i - 1] = not found.err and found[1] and found or false
  end
  return reply
end)
