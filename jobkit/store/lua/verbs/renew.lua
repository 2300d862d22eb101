-- A worker's heartbeat. args: worker, {lease_ms, max_losses, ttl_ms, facts (text by name), barred (more functions that must not
-- run on a worker's loop, if there are any)}, then id, token of each job.
-- Returns {stop, {ids no longer held}, {ids asked to stop}, 1 if something is left over (see Leftover), {barred functions}, {ids asked to stop
-- gently}}. A lapsed lease is renewed unless the job was recovered meanwhile: then its token is another one.
local BARRED_MS = 30 * 86400000 -- after the last one
-- Time from the last heartbeat of a dead worker for which it is listed as lost, with its jobs: longer than a meeting, so that its
-- users see it, and too short for the dead of yesterday to hide the living.
local SEEN_MS = 3600000

verb('renew', ALSO_WHEN_FULL, function(args)
  local worker, options = args[1], cjson.decode(args[2])
  local key, lease_ms = P .. 'worker:' .. worker, options.lease_ms
  local beat = Lifecycle.last_beat()
  if options.facts.load then
    call('SET', P .. 'load:' .. worker, options.facts.load, 'PX', math.max(60000, 4 * lease_ms))
    options.facts.load = nil
  end
  local set = {'beat', NOW, 'lease', lease_ms}
  for name, value in pairs(options.facts) do put(set, name, value) end
  call('HSET', key, unpack(set))
  call('PEXPIRE', key, SEEN_MS)
  call('ZADD', P .. 'workers', NOW, worker)
  local lost, cancelled, asked = {}, {}, {}
  for i = 3, #args, 2 do
    local rec = call('HMGET', P .. 'job:' .. args[i], 'token', 'state', 'cancel', 'uses', 'gently')
    local one = rec[4] and {id = args[i], key = P .. 'job:' .. args[i], token = rec[1], uses = rec[4]}
    if rec[1] == args[i + 1] and rec[2] == 'running' and not (one and reached_by_user('beats', one, lease_ms)) then
      call('ZADD', P .. 'leases', NOW + lease_ms, args[i])
      local found = rec[5] and asked or cancelled
      if rec[3] then found[#found + 1] = args[i] end
    else
      lost[#lost + 1] = args[i]
    end
  end
  if options.barred then
    call('SADD', P .. 'barred', unpack(options.barred))
    call('PEXPIRE', P .. 'barred', BARRED_MS)
  end
  Lifecycle.recover(64, lease_ms, options.max_losses, options.ttl_ms, beat)
  if call('EXISTS', P .. 'gates') == 1 then Limits.revisit() end
  Leftover.go_on(options.ttl_ms)
  Followers.look_after(options.ttl_ms)
  Batches.look_after(options.ttl_ms)
  for _, gone in ipairs(call('ZRANGEBYSCORE', P .. 'workers', '-inf', NOW - SEEN_MS, 'LIMIT', 0, 100)) do
    call('ZREM', P .. 'workers', gone)
  end
  try('HSET', 'jk:libraries', LIBRARY, math.floor(NOW / 1000)) -- it is in use; a user's rights may end at the namespace
  return {call('HGET', key, 'stop') or '', lost, cancelled, Leftover.is_any(), call('SMEMBERS', P .. 'barred'), asked}
end)
