-- Says what queued jobs wait for. args: id... Returns for each the JSON of a `Waiting` (model/limits.py) if it is parked, or if
-- the gate of its queue is shut; else "".
verb('waiting', READS_ONLY, function(args)
  return each(args, 1, 1, '', function(i)
    local id = args[i]
    local rec, found = Records.read(id), nil
    if rec and rec.state == 'queued' then
      local name = rec.terms and call('HGET', rec.key, 'parked')
      local before = name and call('ZRANK', P .. 'parked:' .. name, id)
      local gates, resources = Limits.gates_of(rec)
      for _, gate in ipairs(gates) do
        local is_queue = gate.name == 'queue:' .. rec.queue
        if gate.name == name or (not name and is_queue) then
          local shut, open_us = Limits.is_shut(gate, 0, true)
          if name or shut then
            local paused = type(gate.paused) == 'table' and gate.paused or {}
            found = {gate = gate.name, before = before or call('ZRANK', P .. 'ready:' .. rec.queue, id) or nil, n = gate.n,
              held = call('ZCARD', P .. 'holders:' .. gate.name), count = gate.count, period_ms = gate.period_ms,
              is_paused = gate.paused and true or nil, paused_by = paused.by,
              paused_ms = paused.at and NOW - number(paused.at) or nil,
              open_ms = open_us and math.max(0, math.ceil(open_us / 1000) - NOW) or nil}
          end
        end
      end
      if name and string.sub(name, 1, 3) == 'py:' then found = {gate = name, before = before} end
      if resources and resources.gate == name then found = {gate = name, before = before, use = resources.use} end
    end
    return found and cjson.encode(found) or ''
  end)
end)
