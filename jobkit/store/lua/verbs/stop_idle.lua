-- Asks workers to end if they have no job. args: worker... Returns for each 1, or 0 if it has jobs, ends already or is unknown.
-- From this call on it gets no job: `claim` sees `stop`, and no queue offers it.
verb('stop_idle', ALSO_WHEN_FULL, function(args)
  local replies = {}
  for i, worker in ipairs(args) do
    local key = P .. 'worker:' .. worker
    local known = call('HMGET', key, 'free', 'slots', 'queues', 'stop')
    local is_idle = known[2] and number(known[1]) >= number(known[2]) and not known[4]
    if is_idle then
      Queue.unregister(worker, known[3])
      call('HSET', key, 'stop', 'drain')
      call('PUBLISH', P .. 'inbox:' .. worker, 'Sdrain')
    end
    replies[i] = is_idle and 1 or 0
  end
  return replies
end)
