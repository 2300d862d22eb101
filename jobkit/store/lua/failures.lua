-- Failed jobs in groups: task, kind and type of the error, and place. Put behind head.lua in every script, since every
-- script that ends or forgets a job may touch a group. Only failing jobs pay for it, and those that repeat one.
--
-- `group:{id}` (hash) is the record; `failed:{id}` its jobs by the time they failed (us), `again:{id}` those of them that
-- another job repeats; `failed` (hash) knows the group of each failed job, `groups` all groups by their last failure.

local REMEMBERED_MS = 2592000000 -- 30 days: a group that was muted or resolved outlives its jobs
local noted = 0

local function text(value)
  return type(value) == 'string' and value or ''
end

-- A job has failed.
note_failure = function(rec, err)
  local task, kind, name = text(object(rec.spec).task), text(err.kind), text(err.type)
  if kind == '' then kind = 'exception' end
  local where = (kind == 'exception' or kind == 'crash') and text(err.where) or ''
  local group = string.sub(redis.sha1hex(table.concat({task, kind, name, where}, '\0')), 1, 12)
  local key = P .. 'group:' .. group
  local hour = math.floor(NOW / 3600000)
  local slot = 'h' .. hour % 24
  local known = redis.call('HMGET', key, 'state', slot)
  local of, count = string.match(known[2] or '', '^(%d+):(%d+)$')
  count = of == string.format('%d', hour) and count + 1 or 1
  redis.call('HSET', key, 'last', NOW, 'sample', rec.id, 'message', text(err.message), slot,
    string.format('%d:%d', hour, count))
  redis.call('HINCRBY', key, 'count', 1)
  if not known[1] then
    redis.call('HSET', key, 'state', 'open', 'task', task, 'kind', kind, 'type', name, 'where', where, 'first', NOW)
  elseif known[1] == 'resolved' then
    redis.call('HSET', key, 'state', 'regressed', 'by', '', 'changed', NOW)
  end
  redis.call('PERSIST', key)
  local us = NOW_US + noted -- those of one call keep their order
  noted = noted + 1
  redis.call('ZADD', P .. 'groups', us, group)
  redis.call('ZADD', P .. 'failed:' .. group, us, rec.id)
  redis.call('HSET', P .. 'failed', rec.id, group)
end

-- None of its jobs is left: an open group has nothing more to say, one that somebody judged is remembered for a while.
local function group_is_empty(group)
  local key = P .. 'group:' .. group
  local found = redis.call('HMGET', key, 'state', 'last')
  if found[1] == 'muted' or found[1] == 'resolved' then
    redis.call('PEXPIREAT', key, math.max(NOW + 1, number(found[2]) + REMEMBERED_MS))
  else
    redis.call('DEL', key)
    redis.call('ZREM', P .. 'groups', group)
  end
end

-- A failed job is forgotten.
leave_group = function(id)
  local group = redis.call('HGET', P .. 'failed', id)
  if not group then return end
  redis.call('HDEL', P .. 'failed', id)
  redis.call('ZREM', P .. 'failed:' .. group, id)
  redis.call('SREM', P .. 'again:' .. group, id)
  if redis.call('EXISTS', P .. 'failed:' .. group) == 0 then group_is_empty(group) end
end

-- The group of the failed job that this one repeats, and that job's id; nil where it repeats none.
local function repeats(spec)
  local old = object(spec).retry_of
  local group = type(old) == 'string' and redis.call('HGET', P .. 'failed', old)
  if group then return group, old end
end

-- A job that repeats a failed one was submitted.
note_repeat = function(spec)
  local group, old = repeats(spec)
  if not group then return end
  redis.call('SADD', P .. 'again:' .. group, old)
  tell_control()
end

-- It has succeeded.
note_healed = function(spec)
  local group = repeats(spec)
  if not group then return end
  redis.call('HINCRBY', P .. 'group:' .. group, 'healed', 1)
  tell_control()
end
