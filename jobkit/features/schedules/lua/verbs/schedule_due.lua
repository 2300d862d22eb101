-- Schedules whose slot has come. args: for how long (ms) they are the caller's, limit.
-- Returns {milliseconds until the next call makes sense (-1: nothing known), NOW, {fields and values of the record, 1 if the
-- last job has not ended, payload}, ...}.
-- The first caller has some time to fire them. If it dies or freezes meanwhile, the next one finds them again; that
-- both fire the same slot is prevented by schedule_fire.
verb('schedule_due', UNLESS_FULL, function(args)
  local lease_ms, limit = tonumber(args[1]), tonumber(args[2])
  local reply = {-1, NOW}
  for _, name in ipairs(call('ZRANGEBYSCORE', P .. 'schedules', '-inf', NOW, 'LIMIT', 0, limit)) do
    local key = P .. 'schedule:' .. name
    local spec, slot, paused, last = unpack(call('HMGET', key, 'spec', 'next', 'paused', 'last'))
    if not spec then
      call('ZREM', P .. 'schedules', name)
      Blobs.leave('schedule ' .. name)
    elseif not slot or paused then -- it has ended, or is paused
      call('ZADD', P .. 'schedules', paused and '+inf' or NOW + 60000, name)
    else
      call('ZADD', P .. 'schedules', NOW + lease_ms, name)
      reply[#reply + 1] = {call('HGETALL', key), last and Schedules.is_running(last) and 1 or 0,
        call('GET', P .. 'schedule-args:' .. name)}
    end
  end
  local look = tonumber(call('ZRANGE', P .. 'schedules', 0, 0, 'WITHSCORES')[2])
  if look and look < math.huge then reply[1] = math.max(0, math.ceil(look - NOW)) end
  return reply
end)
