-- Estimates how many waiting jobs could start at once if workers had room for them. args: queue... Returns for each the JSON of
-- {[resources that a job uses, number of jobs], ...}, at most one row for each kind of resources.
--
-- Jobs that wait at a gate other than that of resources are no demand. Of a long line, HEAD jobs from its head and SPREAD from
-- the rest are read, so the cost does not depend on its length.
--
-- Only claims of workers start what is due, fire schedules and end lost attempts. If no worker lives, these are demand, too.
local HEAD, SPREAD = 150, 50
local LATE_MS = 10000 -- after this time, no worker has come for what is due: living ones have come back from any outage

-- How many more jobs a gate lets start now.
local function room_of(gate)
  if Limits.is_shut(gate, 0, true) then return 0 end
  local room = gate.n and gate.n - call('ZCARD', P .. 'holders:' .. gate.name) or math.huge
  if gate.count then
    local recent = 0
    for _, start_us in ipairs(call('LRANGE', P .. 'starts:' .. gate.name, -gate.count, -1)) do
      if number(start_us) + gate.period_ms * 1000 > NOW_US then recent = recent + 1 end
    end
    room = math.min(room, gate.count - recent)
  end
  return room
end

verb('demand', READS_ONLY, function(args)
  local rooms = {} -- by gate
  local function room_at(gate)
    rooms[gate.name] = rooms[gate.name] or room_of(gate)
    return rooms[gate.name]
  end

  -- Adds `weight` jobs like this one to `counts`, by the resources that they use.
  local function add_one(id, state, weight, counts)
    local rec = id and Records.read(id)
    if not rec or rec.state ~= state then return end
    local gates, resources = Limits.gates_of(rec)
    local n = weight
    if state == 'running' then gates = {} end -- it has its places
    for _, gate in ipairs(gates) do n = math.min(n, room_at(gate)) end
    if n <= 0 then return end
    for _, gate in ipairs(gates) do rooms[gate.name] = rooms[gate.name] - n end
    local use = resources and cjson.encode(resources.use) or '{}'
    counts[use] = (counts[use] or 0) + n
  end

  local function add(...) readable(add_one, ...) end

  -- Adds the jobs of a line.
  local function count(line, counts)
    local total = call('ZCARD', line)
    local function look(rank, weight) add(call('ZRANGE', line, rank, rank)[1], 'queued', weight, counts) end
    for rank = 0, math.min(total, HEAD) - 1 do look(rank, 1) end
    local rest = total - HEAD
    local reads = math.min(rest, SPREAD)
    for i = 0, reads - 1 do look(HEAD + math.floor(i * rest / reads), rest / reads) end
  end

  local late = NOW - LATE_MS
  local lost, fires = {}, {} -- ids of jobs, and resources of jobs that features would submit, by queue
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', late, 'LIMIT', 0, HEAD)) do
    local queue = readable(call, 'HGET', P .. 'job:' .. id, 'queue')
    if queue then
      lost[queue] = lost[queue] or {}
      table.insert(lost[queue], id)
    end
  end
  reached('demand', late, HEAD, function(queue, use)
    fires[queue] = fires[queue] or {}
    table.insert(fires[queue], use)
  end)

  return each(args, 1, 1, '[]', function(i)
    local queue, counts, rows = args[i], {}, {}
    local lines = {P .. 'ready:' .. queue}
    for _, name in ipairs(call('SMEMBERS', P .. 'wanted:' .. queue)) do lines[#lines + 1] = P .. 'parked:' .. name end
    for _, line in ipairs(lines) do count(line, counts) end
    for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'due:' .. queue, '-inf', late, 'LIMIT', 0, HEAD)) do
      local gate = string.match(id, '^!(.*)$') -- no job: a limit by rate lets another one start
      if gate then
        add(call('ZRANGE', P .. 'parked:' .. gate, 0, 0)[1], 'queued', 1, counts)
      else
        add(id, 'scheduled', 1, counts)
      end
    end
    for _, id in ipairs(lost[queue] or {}) do add(id, 'running', 1, counts) end
    for _, use in ipairs(fires[queue] or {}) do counts[use] = (counts[use] or 0) + 1 end
    for use, n in pairs(counts) do rows[#rows + 1] = '[' .. use .. ',' .. math.ceil(n - 0.001) .. ']' end
    return '[' .. table.concat(rows, ',') .. ']'
  end)
end)
