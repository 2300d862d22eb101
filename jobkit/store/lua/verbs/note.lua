-- Adds an entry to the audit trail; model/person.py says what is folded and what is deleted. args: the entry (JSON), {person,
-- kind, alone (entries of the kind that are not folded), fold_ms (until their counting starts again), per_person and kept
-- (entries kept of one person and of all), named (targets that an entry names)}. Returns the entry's id.
--
-- `audit:of:{person}` has the ids of a person's entries by age, `audit:people` the number of them by person, and
-- `audit:kind:{kind}` how many entries of a kind there were lately, with the id of the last.

local function of(who) return P .. 'audit:of:' .. who end

local function forget(who, id)
  try('XDEL', P .. 'audit', id) -- which takes no id of another form
  call('ZREM', of(who), id)
  if tonumber(call('ZINCRBY', P .. 'audit:people', -1, who)) <= 0 then call('ZREM', P .. 'audit:people', who) end
end

-- Both entries as one; the count leaves out targets that the older one names already.
local function folded(id, older, newer, named)
  local targets = type(older.targets) == 'table' and older.targets or {}
  local known = {}
  for _, target in ipairs(targets) do known[target] = true end
  newer.count = number(older.count) + number(newer.count)
  for _, target in ipairs(type(newer.targets) == 'table' and newer.targets or {}) do
    if known[target] then
      newer.count = newer.count - 1
    elseif #targets < named then
      targets[#targets + 1] = target
    end
  end
  newer.targets = #targets > 0 and targets or nil
  newer.times = math.max(1, number(older.times)) + 1
  newer.since = older.since or tonumber(string.match(id, '^%d+'))
  return cjson.encode(newer)
end

verb('note', UNLESS_FULL, function(args)
  local entry, options = args[1], cjson.decode(args[2])
  local trail, people, kind = P .. 'audit', P .. 'audit:people', P .. 'audit:kind:' .. redis.sha1hex(options.kind)
  local person = redis.sha1hex(options.person)
  local seen = call('GET', kind)
  local n, last = string.match(seen or '', '^(%d+) (%d+%-%d+)$')
  n = (tonumber(n) or 0) + 1
  if last and n > options.alone then
    local found = call('XRANGE', trail, last, last)[1]
    if found then
      entry = folded(last, object(found[2][2]), object(entry), options.named)
      forget(person, last)
    end
  end
  local id = call('XADD', trail, '*', 'a', entry)
  call('ZADD', of(person), NOW_US, id)
  call('ZINCRBY', people, 1, person)
  if seen then call('SET', kind, n .. ' ' .. id, 'KEEPTTL') else call('SET', kind, n .. ' ' .. id, 'PX', options.fold_ms) end

  while call('ZCARD', of(person)) > options.per_person do
    forget(person, call('ZRANGE', of(person), 0, 0)[1])
  end
  while call('XLEN', trail) > options.kept do
    local most = call('ZREVRANGE', people, 0, 0)[1]
    local theirs = most and call('ZRANGE', of(most), 0, 0)[1]
    if theirs then forget(most, theirs) else call('XTRIM', trail, 'MAXLEN', options.kept) end
  end
  return id
end)
