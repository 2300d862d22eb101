-- One page of ids, newest first. ARGV: index ("jobs" or "state:..."), below (a submit time in us, or "+inf"), limit, budget,
-- task, queue, search (lower case), the same as it stands inside JSON; the last four may be "".
-- Returns {last us looked at, or "" at the end of the index; id, us, id, us, ...}.
local index, below, limit, budget = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local task, queue, search, escaped = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

-- Whether the text stands in a value, or in a name or value inside of it.
local function has(value)
  if type(value) == 'table' then
    for name, part in pairs(value) do
      if (type(name) == 'string' and has(name)) or has(part) then return true end
    end
    return false
  end
  if type(value) == 'number' then
    value = value % 1 == 0 and string.format('%.0f', value) or string.format('%.14g', value)
  elseif type(value) == 'boolean' then
    value = tostring(value)
  end
  return type(value) == 'string' and string.find(string.lower(value), search, 1, true) ~= nil
end

-- Decoding is dear: only where the text is somewhere in the record at all (cjson writes "/" as "\\/").
local function found(spec, numbers, err, summary, worker)
  if has(summary) or has(worker) then return true end
  local raw = string.lower(spec .. '\n' .. (numbers or '') .. '\n' .. string.gsub(err or '', '\\/', '/'))
  if not string.find(raw, escaped, 1, true) then return false end
  local s = object(spec)
  if has(s.id) or has(s.task) or has(s.title) or has(s.params) or has(s.tags) or has(s.owner) or has(s.key) then
    return true
  end
  if numbers and has(object('{' .. numbers .. '}').message) then return true end
  local e = err and object(err)
  return e and (has(e.type) or has(e.message)) or false
end

local reply = {''}
while #reply < 1 + 2 * limit and budget > 0 do
  local chunk = redis.call('ZREVRANGEBYSCORE', P .. index, below, '-inf', 'WITHSCORES', 'LIMIT', 0, math.min(budget, 200))
  if #chunk == 0 then reply[1] = ''; return reply end
  for i = 1, #chunk, 2 do
    local id, us = chunk[i], string.format('%.0f', chunk[i + 1])
    budget = budget - 1
    below = '(' .. us
    reply[1] = us
    local rec = redis.pcall('HMGET', P .. 'job:' .. id, 'spec', 'queue', 'p', 'error', 'summary', 'worker')
    if rec.err or not rec[1] then
      forget(id) -- it expired, and was not pruned yet
    elseif (queue == '' or rec[2] == queue)
      and (task == '' or (string.find(rec[1], task, 1, true) and object(rec[1]).task == task))
      and (search == '' or found(rec[1], rec[3], rec[4], rec[5], rec[6])) then
      reply[#reply + 1] = id
      reply[#reply + 1] = us
      if #reply >= 1 + 2 * limit then break end
    end
  end
end
return reply
