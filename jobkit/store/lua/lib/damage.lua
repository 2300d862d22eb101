-- Damage: what jobkit has not written like this. A key of another type than its name says is put aside, to
-- `damaged:{key}`, when a verb meets it; the verb goes on as if it was not there. A record or member that cannot be read stays
-- in its place, and is left out. `damaged` (hash) names both with the reason, for `jobkit doctor`: the key, and after a
-- newline the field, member or entry. A note has `aside` if the key was put aside, `removed` if the field was removed, and
-- `failed` if the record may be sound, but a verb has failed with it.

local NOTED_MOST = 1000
local LEASE_MS = 15000 -- of a running job whose lease is not known; its worker renews it sooner

-- Both may be called while a verb only reads: then nothing is noted.
local function write(name, why, how)
  local noted = try('HLEN', P .. 'damaged')
  if type(noted) == 'table' then noted = try('UNLINK', P .. 'damaged') and 0 end
  local note = {at = NOW, why = why}
  if how then note[how] = true end
  if how == 'aside' then
    try('HSET', P .. 'damaged', name, cjson.encode(note))
  elseif noted < NOTED_MOST then
    try('HSETNX', P .. 'damaged', name, cjson.encode(note))
  end
end

function Damage.note(name, why) write(name, why) end

-- Indexes of jobs, which are filled again from the records when they were put aside, with what the score of a job is there,
-- nil if it does not belong there.
local INDEXES = {
  jobs = function(rec) return rec.us end,
  state = function(rec, state) return rec.state == state and rec.us end,
  batched = function(rec) return rec.batch and rec.us end,
  expiry = function(rec) return IS_OVER[rec.state] and NOW + math.max(0, call('PTTL', rec.key)) end,
  leases = function(rec) return rec.state == 'running' and NOW + LEASE_MS end,
  due = function(rec, queue)
    return rec.state == 'scheduled' and rec.queue == queue and not rec.waits and number(call('HGET', rec.key, 'due'))
  end,
  ready = function(rec, queue)
    return rec.state == 'queued' and rec.queue == queue and not call('HGET', rec.key, 'parked') and Queue.score(rec, rec.us)
  end,
}

-- Fills an index again from another one, in steps, from the time of submit `from` (us) on. `what` is "INDEX SOURCE".
function Damage.relist(what, _, from)
  local name, source = string.match(what, '^(%S+) (%S+)$')
  local kind, part = string.match(name or '', '^(%a+):?(.*)$')
  if not INDEXES[kind] then return end
  local found = call('ZRANGEBYSCORE', P .. source, '(' .. string.format('%.0f', from), '+inf', 'WITHSCORES', 'LIMIT', 0,
    math.max(1, STEPS_MOST - steps))
  for i = 1, #found, 2 do
    local rec = Records.read(found[i])
    local score = rec and INDEXES[kind](rec, part)
    if score then call('ZADD', P .. name, 'NX', score, rec.id) end
    steps = steps + 1
  end
  if #found > 0 then Leftover.keep('relist', what, found[#found]) end
end

-- Puts a key aside; true if that was possible. Keys of other clients are not ours to move.
function Damage.put_aside(key)
  local name, kind = string.sub(key, #P + 1), try('TYPE', key).ok
  if string.sub(key, 1, #P) ~= P or type(try('RENAME', key, P .. 'damaged:' .. name)) ~= 'table' then return false end
  if try('EXISTS', key) == 1 then return false end
  write(name, 'its type is ' .. kind, 'aside')
  if name == 'jobs' then
    for state in pairs(STATES) do Leftover.keep('relist', 'jobs state:' .. state, 0) end
  elseif INDEXES[string.match(name, '^%a+')] then
    Leftover.keep('relist', name .. ' jobs', 0)
  end
  return true
end

-- Whether an error is about data. Others with the same code are about rights or the server: "ERR ACL failure in script".
local DATA = {'not an integer', 'out of range', 'overflow', 'float', 'NaN', 'invalid expire', 'The ID ', 'possible ID'}
function Damage.is_about_data(text)
  if string.find(text, '^WRONGTYPE') then return true end
  if not string.find(text, '^ERR ') then return not string.find(text, '^%u+ ') end -- without a code: an error of Lua
  for _, words in ipairs(DATA) do
    if string.find(text, words, 1, true) then return true end
  end
  return false
end

-- The reply to a command that has failed with `reply`, once what is damaged was put aside.
function Damage.mended(reply, ...)
  local command, key, field = ...
  local text, is_mended = reply.err, false
  if string.find(text, '^WRONGTYPE') or (command == 'XADD' and Damage.is_about_data(text)) then
    is_mended = Damage.put_aside(key)
  elseif command == 'HINCRBY' and Damage.is_about_data(text) then -- it is no number, or one at its limit
    is_mended = try('HDEL', key, field) == 1
    write(string.sub(key, #P + 1) .. '\n' .. field, 'it is no number, and was removed', 'removed')
  end
  local again = is_mended and try(...)
  if is_mended and not (type(again) == 'table' and again.err) then return again end
  if string.find(text, '^WRONGTYPE') then reply.err = 'WRONGTYPE ' .. key .. ' is damaged: ' .. string.sub(text, 11) end
  error(reply)
end

-- Takes a job out of every line: no verb meets it there again.
local function stop(id)
  call('ZREM', P .. 'leases', id)
  for _, queue in ipairs(call('SMEMBERS', P .. 'queues')) do
    for _, line in ipairs({'ready:', 'due:', 'held:'}) do call('ZREM', P .. line .. queue, id) end
  end
end

-- What `act` returns. If the data of a job make it fail, nil; the job then stays as it is, out of every line.
function Damage.guard(id, act, ...)
  local is_done, reply = pcall(act, ...)
  if is_done then return reply end
  Damage.caught(id, reply)
  stop(id)
end

-- After an error. Raises it again if it is not about data: a user without the right to a command, for instance.
function Damage.caught(id, reply)
  local text = type(reply) == 'table' and reply.err or tostring(reply)
  if not Damage.is_about_data(text) then error(reply) end
  write('job:' .. id, 'a verb failed: ' .. text, 'failed')
end

-- What is left of a job whose record is gone or cannot be read.
function Damage.drop(id)
  Records.forget(id)
  for _, state in ipairs({'scheduled', 'queued', 'running'}) do call('ZREM', P .. 'state:' .. state, id) end
  stop(id)
end

-- The index in which the records of a kind are listed.
Damage.listed = {worker = 'workers'}
local REMOVE = {hash = 'HDEL', zset = 'ZREM', set = 'SREM', stream = 'XDEL'}

-- Removes what `damaged` names; returns 1, or 0 for a name that it does not have.
function Damage.discard(name)
  local note = call('HGET', P .. 'damaged', name)
  if not note then return 0 end
  local key, member = string.match(name, '^([^\n]*)\n(.*)$')
  local kind, id = string.match(name, '^(%a+):(.*)$')
  local how = object(note)
  if how.aside then
    call('UNLINK', P .. 'damaged:' .. name)
  elseif member then
    local remove = not how.removed and REMOVE[try('TYPE', P .. key).ok]
    if remove then try(remove, P .. key, member) end
  elseif kind == 'job' then
    Damage.drop(id)
  else
    call('UNLINK', P .. name)
    if Damage.listed[kind] then call('ZREM', P .. Damage.listed[kind], id) end
  end
  call('HDEL', P .. 'damaged', name)
  return 1
end
