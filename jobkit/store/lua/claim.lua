-- Up to `free` jobs for a worker. ARGV: worker, free, received, lease_ms, max_losses, ttl_ms, limit, queue...
-- A negative `received` starts the count of handed-over jobs anew: the worker is about to subscribe (again).
-- Returns {milliseconds until the next job is due or a lease ends (-1: nothing known), message...}.
exceed_memory()
local worker, free, received = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lease_ms, max_losses, ttl_ms, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local key = P .. 'worker:' .. worker
local queues = {unpack(ARGV, 8)}

-- While this script runs, nothing may be handed over to the caller itself.
for _, queue in ipairs(queues) do redis.call('ZREM', P .. 'idle:' .. queue, worker) end

if received < 0 then
  redis.call('HSET', key, 'handed', 0)
  received = 0
end

-- Jobs that were handed over and are still on their way already fill slots that the worker thinks are free.
free = free - (tonumber(redis.call('HGET', key, 'handed') or 0) - received)

local grace = recover(limit, lease_ms, max_losses, ttl_ms)
local reply = {-1}
for _, queue in ipairs(queues) do
  promote(queue, limit)
  local passed = 0
  while free > 0 and passed <= 2 * limit do
    local before = passed
    for _, id in ipairs(redis.call('ZRANGE', P .. 'ready:' .. queue, passed, passed + free - 1)) do
      local rec = read(id)
      if rec and rec.losses >= SUSPECT and has_suspect(worker) then
        passed = passed + 1 -- it waits for another worker, or for the end of that one
      else
        redis.call('ZREM', P .. 'ready:' .. queue, id)
        if rec and rec.state == 'queued' then
          local message = start(rec, worker, lease_ms)
          if message then
            reply[#reply + 1] = message
            free = free - 1
          end
        end
      end
    end
    if passed == before then break end
  end
end

redis.call('HSET', key, 'free', math.max(0, free), 'lease', lease_ms, 'queues', table.concat(queues, ','))
redis.call('PEXPIRE', key, 3600000)
local next_at = tonumber(redis.call('ZRANGE', P .. 'leases', 0, 0, 'WITHSCORES')[2])
if grace > 0 then -- the leases that are over have to wait; the next one to end does not
  local lease = redis.call('ZRANGEBYSCORE', P .. 'leases', '(' .. NOW, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  next_at = math.min(grace, tonumber(lease[2] or grace))
end
for _, queue in ipairs(queues) do
  if free > 0 then redis.call('ZADD', P .. 'idle:' .. queue, free, worker) end
  local due = tonumber(redis.call('ZRANGE', P .. 'due:' .. queue, 0, 0, 'WITHSCORES')[2])
  if due and (not next_at or due < next_at) then next_at = due end
end
if next_at then reply[1] = math.max(0, math.ceil(next_at - NOW)) end
return reply
