-- Followers: jobs that need the results of others. They wait, and go on or end when those have ended.
--
-- A follower's field `waits` counts the open jobs that it needs. If it needs many, it has the field `many`, `needs:{id}` has
-- their ids, and `waits` is one more until calls have looked at all of them. `after:{id}` has the followers of a job,
-- with the time of their submit (us), which tells a follower from a later job of its id. `needed` has the jobs with
-- followers by the time of the last look at them. No follower that is left over can start.

local NEEDS_MOST, NEEDS_BYTES = 500, 125000 -- looked at by one call; more than the bytes of so many ids
local LOOKED_AT_MOST, LOOK_EVERY_MS = 100, 2500

-- A job that waited for others has all it needs: it is queued, or goes on to wait for its time.
local function free_to_run(rec)
  call('HDEL', rec.key, 'waits')
  rec.waits = false
  local due = number(call('HGET', rec.key, 'due'))
  if due <= NOW then Queue.enter(rec) end
  Queue.line_up(rec, due, tick())
end

-- A job whose need will never be there ends. `why` follows "job ... (task), whose result it needs, ".
local function fail_for(rec, need, task, why, ttl_ms)
  local name = 'job ' .. need .. (task ~= '' and ' (' .. task .. ')' or '')
  local err = {kind = 'dependency', type = 'dependency', traceback = '', where = '',
    message = name .. ', whose result it needs, ' .. why}
  Lifecycle.conclude(rec, 'failed', {error = err}, {'error', cjson.encode(err)}, Records.kept_ms(rec, ttl_ms))
end

-- Why a job that has ended gives no result, or nil if it gives one.
local function no_result(state, error)
  if state == 'succeeded' then return nil end
  if not IS_OVER[state] then return 'is not kept: it was removed, or has expired' end
  if state ~= 'failed' then return 'was ' .. state end
  if not error then return 'failed' end
  local message = type(error.message) == 'string' and error.message or ''
  local text = error.kind == 'exception' and tostring(error.type) .. ': ' .. message or message
  local first = string.match(text, '^[^\n]*')
  first = error.kind == 'dependency' and string.match(first, 'cannot run: (.*)$') or first -- what began it is enough
  if #first > 300 then first = string.gsub(string.sub(first, 1, 300), '[\128-\255]*$', '') .. '...' end
  return (error.kind == 'dependency' and 'cannot run: ' or 'failed: ') .. first
end

-- What has become of a needed job: true if it has not ended; else false and why it gives no result (nil if it gives one), with
-- the name of its task.
local function outcome_of(id)
  local found = call('HMGET', P .. 'job:' .. id, 'state', 'spec', 'error')
  if found[1] and not IS_OVER[found[1]] then return true end
  local why = no_result(found[1] or 'removed', found[3] and object(found[3]) or nil)
  return false, why, why and found[2] and Records.task_of(found[2]) or ''
end

-- Looks at jobs that a follower needs: it waits for those that are open, or ends if it will never get one. Returns how many are
-- open; nil if it has ended.
local function look_at(rec, needs)
  local open = {}
  for _, need in ipairs(needs) do
    local is_open, why, task = outcome_of(need)
    if why then return fail_for(rec, need, task, why, 604800000) end
    if is_open then open[#open + 1] = need end
  end
  for _, need in ipairs(open) do
    call('ZADD', P .. 'after:' .. need, rec.us, rec.id)
    call('ZADD', P .. 'needed', 'NX', NOW, need)
    call('HSET', P .. 'job:' .. need, 'after', 1)
  end
  return #open
end

-- A new job that needs the results of others: it waits for them, is free to run if all are there, or ends if one never
-- will be.
function Followers.await(rec, needs)
  local open = look_at(rec, needs)
  if open == 0 then
    free_to_run(rec)
  elseif open then
    call('HSET', rec.key, 'waits', open)
  end
end

-- The same with so many that one call cannot look at all of them. `ids` are separated by commas.
function Followers.await_many(rec, ids)
  call('SET', P .. 'needs:' .. rec.id, ids)
  call('HSET', rec.key, 'waits', 1, 'many', 1)
  Leftover.keep('needs', rec.id, 0)
end

-- Goes on with the needs of a job that has many, from a byte of their ids on.
function Followers.go_on(id, _, from)
  local key, rec = P .. 'needs:' .. id, Records.read(id)
  if not (rec and rec.waits and call('HGET', rec.key, 'many')) then return call('DEL', key) end
  local needs, past = {}, 0
  for need, behind in string.gmatch(call('GETRANGE', key, from, from + NEEDS_BYTES - 1), '([^,]+),?()') do
    needs[#needs + 1], past = need, behind - 1
    if #needs == NEEDS_MOST then break end
  end
  steps = STEPS_MOST
  local is_last, open = from + past >= call('STRLEN', key), look_at(rec, needs)
  if is_last or not open then call('DEL', key) end
  if not open then return end
  local waits = call('HINCRBY', rec.key, 'waits', open - (is_last and 1 or 0))
  if not is_last then
    Leftover.keep('needs', id, from + past)
  elseif waits <= 0 then
    free_to_run(rec)
  end
end

-- A job that waits for others ends before they do. If it needs many, it stays in their lists, which know it by its time.
function Followers.leave(rec)
  call('HDEL', rec.key, 'waits')
  rec.waits = false
  if call('HGET', rec.key, 'many') then return end
  for _, need in ipairs(Records.needs(rec)) do call('ZREM', P .. 'after:' .. need, rec.id) end
end

-- A job that a follower needs has ended; `us` is the time of the follower's submit.
local function settle_one(id, us, need, why, task, ttl_ms)
  local found = try('HMGET', P .. 'job:' .. id, 'waits', 'us')
  if found.err or not found[1] or tonumber(found[2]) ~= us then return end
  if not why and call('HINCRBY', P .. 'job:' .. id, 'waits', -1) > 0 then return end
  local rec = Records.read(id)
  if not rec then return end
  if why then fail_for(rec, need, task, why, ttl_ms) else free_to_run(rec) end
end

-- Moves as many followers of a job that has ended as this call still may.
local function settle_some(id, ttl_ms)
  local is_open, why, task = outcome_of(id)
  local key = P .. 'after:' .. id
  if not is_open then
    local found = call('ZPOPMIN', key, math.max(0, STEPS_MOST - steps))
    steps = steps + #found / 2
    for i = 1, #found, 2 do
      Damage.guard(found[i], settle_one, found[i], tonumber(found[i + 1]), id, why, task, ttl_ms)
    end
  end
  if call('EXISTS', key) == 0 then
    call('ZREM', P .. 'needed', id)
  elseif is_open then
    call('ZADD', P .. 'needed', NOW, id)
  else
    Leftover.keep('followers', id, 0)
  end
end

-- Those that wait for the result of a job that has ended. A list and not a recursion: chains may be long.
function Followers.settle(id, ttl_ms)
  ended[#ended + 1] = id
  if is_settling then return end
  is_settling = true
  local done = 0
  while done < #ended do
    done = done + 1
    settle_some(ended[done], ttl_ms)
  end
  ended, is_settling = {}, false
end

-- With each heartbeat: the followers of jobs that are gone, or whose end was not seen because of damaged data.
function Followers.look_after(ttl_ms)
  local ids = call('ZRANGEBYSCORE', P .. 'needed', '-inf', NOW - LOOK_EVERY_MS, 'LIMIT', 0, LOOKED_AT_MOST)
  for _, id in ipairs(ids) do Followers.settle(id, ttl_ms) end
end
