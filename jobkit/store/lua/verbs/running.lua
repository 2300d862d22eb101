-- Counts running jobs by worker and queue. args: the first and the last rank in the order of submit, and how many ids to return.
-- Returns {worker, queue, count, id...} of each pair, with the ids that come first.
verb('running', READS_ONLY, function(args)
  local reply, of = {}, {}
  for _, id in ipairs(call('ZRANGE', P .. 'state:running', args[1], args[2])) do
    local queue, worker = unpack(try('HMGET', P .. 'job:' .. id, 'queue', 'worker'))
    if queue then
      worker = worker or ''
      local name = worker .. '\n' .. queue
      local row = of[name]
      if not row then
        row = {worker, queue, 0}
        of[name], reply[#reply + 1] = row, row
      end
      row[3] = row[3] + 1
      if #row < 3 + number(args[3]) then row[#row + 1] = id end
    end
  end
  return reply
end)
