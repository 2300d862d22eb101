-- Adds an entry to the audit trail; model/audit.py says what is folded and what is deleted. ARGV: the entry (JSON), its person
-- and its kind, entries of the kind that are not folded, ms until their counting starts again, entries kept of one
-- person, entries kept of all, targets that an entry names. Returns the entry's id.
--
-- `audit:of:{person}` has the ids of a person's entries by age, `audit:people` the number of them by person, and
-- `audit:kind:{kind}` how many entries of a kind there were lately, with the id of the last.
local trail, people, kind = P .. 'audit', P .. 'audit:people', P .. 'audit:kind:' .. redis.sha1hex(ARGV[3])
local entry, person = ARGV[1], redis.sha1hex(ARGV[2])
local alone, fold_ms, per_person, kept, named = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local function of(who) return P .. 'audit:of:' .. who end

local function forget(who, id)
  redis.call('XDEL', trail, id)
  redis.call('ZREM', of(who), id)
  if tonumber(redis.call('ZINCRBY', people, -1, who)) <= 0 then redis.call('ZREM', people, who) end
end

-- Both entries as one; the count leaves out targets that the older one names already.
local function folded(id, older, newer)
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

local seen = redis.call('GET', kind)
local n, last = string.match(seen or '', '^(%d+) (.+)$')
n = (tonumber(n) or 0) + 1
if last and n > alone then
  local found = redis.call('XRANGE', trail, last, last)[1]
  if found then
    entry = folded(last, object(found[2][2]), object(entry))
    forget(person, last)
  end
end
local id = redis.call('XADD', trail, '*', 'a', entry)
redis.call('ZADD', of(person), NOW_US, id)
redis.call('ZINCRBY', people, 1, person)
if seen then redis.call('SET', kind, n .. ' ' .. id, 'KEEPTTL') else redis.call('SET', kind, n .. ' ' .. id, 'PX', fold_ms) end

while redis.call('ZCARD', of(person)) > per_person do
  forget(person, redis.call('ZRANGE', of(person), 0, 0)[1])
end
-- Entries of a version that did not count them are older than all others, and go first.
local function is_counted(id, fields)
  local found = object(fields[2])
  return redis.call('ZSCORE', of(redis.sha1hex(tostring(found.who or '') .. '\31' .. tostring(found.role or ''))), id)
end

while redis.call('XLEN', trail) > kept do
  local oldest = redis.call('XRANGE', trail, '-', '+', 'COUNT', 1)[1]
  local most = is_counted(oldest[1], oldest[2]) and redis.call('ZREVRANGE', people, 0, 0)[1]
  local theirs = most and redis.call('ZRANGE', of(most), 0, 0)[1]
  if theirs then forget(most, theirs) else redis.call('XDEL', trail, oldest[1]) end
end
return id
