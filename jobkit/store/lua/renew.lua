-- A worker's heartbeat. ARGV: worker, lease_ms, max_losses, ttl_ms, n facts, fact, value, ..., then id, token of each job.
-- Returns {stop, {ids no longer held}, {ids asked to stop}, why the server takes no submit or ""}. A lapsed lease is taken
-- back as long as nobody else has recovered the job: the token tells.
local refused = refusal()
exceed_memory()
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
local key = P .. 'worker:' .. worker
local facts = tonumber(ARGV[5])
local beat = last_beat()
redis.call('HSET', key, 'beat', NOW, 'lease', lease_ms, unpack(ARGV, 6, 5 + 2 * facts))
redis.call('PEXPIRE', key, 3600000)
redis.call('ZADD', P .. 'workers', NOW, worker)
local lost, cancelled = {}, {}
for i = 6 + 2 * facts, #ARGV, 2 do
  local rec = redis.call('HMGET', P .. 'job:' .. ARGV[i], 'token', 'state', 'cancel', 'arq')
  if rec[1] == ARGV[i + 1] and rec[2] == 'running' and (not rec[4] or arq_renew(rec[4], rec[1], lease_ms)) then
    redis.call('ZADD', P .. 'leases', NOW + lease_ms, ARGV[i])
    if rec[3] then cancelled[#cancelled + 1] = ARGV[i] end
  else
    lost[#lost + 1] = ARGV[i]
  end
end
recover(64, lease_ms, tonumber(ARGV[3]), tonumber(ARGV[4]), beat)
if redis.call('EXISTS', P .. 'gates') == 1 then
  hold()
  look_at_gates()
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', NOW - 3600000, 'LIMIT', 0, 100)) do
  redis.call('ZREM', P .. 'workers', gone)
end
return {redis.call('HGET', key, 'stop') or '', lost, cancelled, refused}
