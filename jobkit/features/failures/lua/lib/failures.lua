-- Failed jobs in groups: task, kind and type of the error, and place. Each call that ends or deletes a job may
-- touch a group.
--
-- `group:{id}` (hash) is the record; `failed:{id}` its jobs by the time they failed (us), `again:{id}` those of them that
-- another job repeats, `healed:{id}` those of these with success; `failed` (hash) knows the group of each failed job, `groups` all groups by their last failure.

local REMEMBERED_MS = 2592000000 -- 30 days: a group that was muted or resolved outlives its jobs

local function text(value)
  return type(value) == 'string' and value or ''
end

-- A job has failed.
local function add(rec, err)
  local task, kind, name = Records.task_of(rec.spec), text(err.kind), text(err.type)
  if kind == '' then kind = 'exception' end
  local where = (kind == 'exception' or kind == 'crash') and text(err.where) or ''
  local place = string.gsub(where, '^Cell In%[%d+%], ', '') -- a cell that is run again has another number
  local group = string.sub(redis.sha1hex(table.concat({task, kind, name, place}, '\0')), 1, 12)
  local key = P .. 'group:' .. group
  local hour = math.floor(NOW / 3600000)
  local slot = 'h' .. hour % 24
  local known = call('HMGET', key, 'state', slot)
  local of, count = string.match(known[2] or '', '^(%d+):(%d+)$')
  count = of == string.format('%d', hour) and count + 1 or 1
  call('HSET', key, 'last', NOW, 'sample', rec.id, 'message', text(err.message), slot,
    string.format('%d:%d', hour, count))
  call('HINCRBY', key, 'count', 1)
  if not known[1] then
    call('HSET', key, 'state', 'open', 'task', task, 'kind', kind, 'type', name, 'where', where, 'first', NOW)
  elseif known[1] == 'resolved' then
    call('HSET', key, 'state', 'regressed', 'by', '', 'changed', NOW)
  end
  call('PERSIST', key)
  local us = tick()
  call('ZADD', P .. 'groups', us, group)
  call('ZADD', P .. 'failed:' .. group, us, rec.id)
  call('HSET', P .. 'failed', rec.id, group)
end

-- None of its jobs is left: an open group is deleted, a muted or resolved one is kept for a while.
function Failures.emptied(group)
  local key = P .. 'group:' .. group
  local found = call('HMGET', key, 'state', 'last')
  if found[1] == 'muted' or found[1] == 'resolved' then
    call('PEXPIREAT', key, math.max(NOW + 1, number(found[2]) + REMEMBERED_MS))
  else
    call('DEL', key)
    call('ZREM', P .. 'groups', group)
  end
end

-- A failed job is forgotten.
local function leave(id)
  local group = call('HGET', P .. 'failed', id)
  if not group then return end
  call('HDEL', P .. 'failed', id)
  call('ZREM', P .. 'failed:' .. group, id)
  call('SREM', P .. 'again:' .. group, id)
  call('SREM', P .. 'healed:' .. group, id)
  if call('EXISTS', P .. 'failed:' .. group) == 0 then Failures.emptied(group) end
end

-- A job that repeats a failed one was submitted ("again"), or has succeeded ("healed"); nothing for other jobs.
local function tell(kind, spec)
  if not string.find(spec, '"retry_of":', 1, true) then return end
  local old = object(spec).retry_of
  local group = type(old) == 'string' and call('HGET', P .. 'failed', old)
  if not group then return end
  call('SADD', P .. kind .. ':' .. group, old)
  Records.tell_control()
end

on('created', function(rec)
  tell('again', rec.spec)
end)

on('ended', function(rec, state, data)
  if state == 'failed' then add(rec, data.error or {}) end
  if state == 'succeeded' then tell('healed', rec.spec) end
end)

on('restored', function(rec, state, err)
  if state == 'failed' then add(rec, err) end
end)

on('deleted', function(id, state)
  if state == 'failed' then leave(id) end
end)

Damage.listed.group = 'groups'
