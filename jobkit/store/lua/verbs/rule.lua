-- Sets or ends a rule of the namespace (see Limits). args: gate ("task:NAME" or "queue:NAME"), the change (JSON with n, count
-- and period_ms, paused; null ends one part of the rule, {} changes nothing) or "" to end the rule. Returns the rule that
-- holds now (JSON), or "", how many attempts have a place there, and 1 if something is left over (see Leftover).
verb('rule', ALSO_WHEN_FULL, function(args)
  local gate, change = args[1], args[2]
  local rule = object(call('HGET', P .. 'rules', gate) or '{}')
  if change == '' then
    rule = {}
  else
    for name, value in pairs(object(change)) do rule[name] = value ~= cjson.null and value or nil end
  end
  if type(rule.paused) == 'table' and not rule.paused.at then rule.paused.at = NOW end
  if next(rule) then
    call('HSET', P .. 'rules', gate, cjson.encode(rule))
  else
    call('HDEL', P .. 'rules', gate)
  end

  -- Workers learn that there are rules from their own hash, and claim anew.
  local ruled = call('EXISTS', P .. 'rules')
  local told = {}
  local function tell(id)
    if told[id] then return end
    told[id] = true
    if call('EXISTS', P .. 'worker:' .. id) == 1 then call('HSET', P .. 'worker:' .. id, 'ruled', ruled) end
    call('PUBLISH', P .. 'inbox:' .. id, 'W')
  end
  for _, id in ipairs(call('ZRANGE', P .. 'workers', 0, -1)) do tell(id) end
  for _, queue in ipairs(call('SMEMBERS', P .. 'queues')) do -- those that have just begun
    for _, id in ipairs(call('ZRANGE', P .. 'idle:' .. queue, 0, -1)) do tell(id) end
  end
  Limits.count_running(gate)
  Limits.disarm(gate)
  Limits.pump(gate)
  Records.tell_control()
  return {next(rule) and cjson.encode(rule) or '', call('ZCARD', P .. 'holders:' .. gate), left}
end)
