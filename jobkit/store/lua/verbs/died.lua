-- Ends the leases of workers whose processes are known to have ended: they will not renew. args: worker...
-- A lease that ends at 0 needs no grace, see Lifecycle.recover.
verb('died', ALSO_WHEN_FULL, function(args)
  local has_died = {}
  for _, worker in ipairs(args) do
    local key = P .. 'worker:' .. worker
    Queue.unregister(worker, call('HGET', key, 'queues'))
    call('HDEL', key, 'process')
    call('HSET', key, 'lease', 0) -- shown as dead
    has_died[worker] = true
  end
  for _, id in ipairs(call('ZRANGE', P .. 'leases', 0, -1)) do
    local rec = Records.read(id)
    if rec and has_died[rec.worker] then call('ZADD', P .. 'leases', 0, id) end
  end
end)
