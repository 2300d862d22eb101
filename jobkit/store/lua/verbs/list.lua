-- Lists one page of ids by age. args: {index ("jobs" or "state:..."), newest (first; else the oldest), low and high (bounds of
-- the submit time in us as ZRANGEBYSCORE takes them), limit, budget, filter (`filter_of` in finding.py)}.
-- Returns {{last us looked at, or "" at the end of the index; id, us, id, us, ...}, {ids without a record}}: the caller lets
-- `forget` delete those, which have expired and were not pruned yet. This verb writes nothing, so that it runs on a replica.

local function plain(value)
  if type(value) == 'number' then
    return value % 1 == 0 and string.format('%.0f', value) or string.format('%.14g', value)
  elseif type(value) == 'boolean' then
    return tostring(value)
  end
  return type(value) == 'string' and value or nil
end

local function holds(value, text)
  return value and string.find(string.lower(value), text, 1, true) ~= nil
end

-- Whether the text stands in a value, or in a name or value inside of it; "name=value" are one text.
local function has(value, text)
  if type(value) == 'table' then
    for name, part in pairs(value) do
      local one = plain(part)
      if type(name) == 'string' then
        if holds(one and name .. '=' .. one or name, text) then return true end
        if not one and has(part, text) then return true end
      elseif has(part, text) then
        return true
      end
    end
    return false
  end
  return holds(plain(value), text)
end

-- Decoding is dear: only where all parts of the text are somewhere in the record (cjson writes "/" as "\\/").
local function found(one, spec, numbers, err, summary, worker)
  local text = one.text
  if holds(summary, text) or holds(worker, text) then return true end
  local raw = string.lower(spec .. '\n' .. (numbers or '') .. '\n' .. string.gsub(err or '', '\\/', '/'))
  for _, part in ipairs(one.parts) do
    if not string.find(raw, part, 1, true) then return false end
  end
  local s = object(spec)
  if has(s.id, text) or has(s.task, text) or has(s.title, text) or has(s.params, text) or has(s.tags, text)
    or has(s.owner, text) or has(s.key, text) then
    return true
  end
  if numbers and has(object('{' .. numbers .. '}').message, text) then return true end
  local e = err and object(err)
  return e and (has(e.type, text) or has(e.message, text)) or false
end

-- Whether a value is one of those asked for: exactly, or by a pattern of Lua.
local function is_one(value, asked)
  for _, name in ipairs(asked) do
    if name.pattern then
      if string.find(value or '', name.pattern) then return true end
    elseif value == name.exact then
      return true
    end
  end
  return false
end

local function has_one(values, asked)
  for _, value in ipairs(type(values) == 'table' and values or {}) do
    if is_one(value, asked) then return true end
  end
  return false
end

local function fits(filter, spec, queue, numbers, err, summary, worker, started, finished)
  if filter.queue and not is_one(queue, filter.queue) then return false end
  if filter.worker and not is_one(worker or '', filter.worker) then return false end
  if filter.took then
    if not (started and finished) then return false end
    local took = math.max(0, number(finished) - number(started))
    if took < filter.took[1] or (filter.took[2] and took > filter.took[2]) then return false end
  end
  if filter.error then
    local e = err and object(err)
    if not e or not (is_one(e.type, filter.error) or is_one(e.kind, filter.error)) then return false end
  end
  if filter.hint and not string.find(spec, filter.hint, 1, true) then return false end
  if filter.task or filter.owner or filter.tag then
    local s = object(spec)
    if filter.task and not is_one(s.task, filter.task) then return false end
    if filter.owner and not is_one(s.owner or '', filter.owner) then return false end
    if filter.tag and not has_one(s.tags, filter.tag) then return false end
  end
  for _, one in ipairs(filter.texts or {}) do
    if not found(one, spec, numbers, err, summary, worker) then return false end
  end
  return true
end

verb('list', READS_ONLY, function(args)
  local options = cjson.decode(args[1])
  local newest, low, high, limit, budget = options.newest, options.low, options.high, options.limit, options.budget
  local command = newest and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE'
  local reply, gone = {''}, {}
  while #reply < 1 + 2 * limit and budget > 0 do
    local chunk = call(command, P .. options.index, newest and high or low, newest and low or high, 'WITHSCORES',
      'LIMIT', 0, math.min(budget, 200))
    if #chunk == 0 then reply[1] = ''; break end
    for i = 1, #chunk, 2 do
      local id, us = chunk[i], string.format('%.0f', chunk[i + 1])
      budget = budget - 1
      if newest then high = '(' .. us else low = '(' .. us end
      reply[1] = us
      local rec = try('HMGET', P .. 'job:' .. id, 'spec', 'queue', 'p', 'error', 'summary', 'worker', 'started', 'finished')
      if rec.err or not rec[1] then
        gone[#gone + 1] = id
      elseif fits(options.filter, unpack(rec, 1, 8)) then
        reply[#reply + 1] = id
        reply[#reply + 1] = us
        if #reply >= 1 + 2 * limit then break end
      end
    end
  end
  return {reply, gone}
end)
