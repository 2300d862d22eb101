-- Followers: jobs that need the results of others. They wait, and go on or end when those have ended.
--
-- A follower's field `waits` counts the open jobs that it needs. `after:{id}` has the followers of a job, with the time of
-- their submit (us), which tells a follower from a later job of its id. `needed` has the jobs with followers by the time of
-- the last look at them: 0 if the job has ended and a call has left some of its followers over. No follower can start
-- meanwhile. The caller that ended the job goes on at once, by `settle`; if it does not, the next heartbeat does.

local LOOKED_AT_MOST, LOOK_EVERY_MS = 100, 2500

-- A job that waited for others has all it needs: it is queued, or goes on to wait for its time.
local function free_to_run(rec)
  call('HDEL', rec.key, 'waits')
  rec.waits = false
  local due = tonumber(call('HGET', rec.key, 'due') or 0)
  if due <= NOW then Queue.enter(rec) end
  Queue.line_up(rec, due, tick())
end

-- A job whose need will never be there ends. `why` follows "job ... (task), whose result it needs, ".
local function fail_for(rec, need, task, why, ttl_ms)
  local name = 'job ' .. need .. (task and ' (' .. task .. ')' or '')
  local err = {kind = 'dependency', type = 'dependency', traceback = '', where = '',
    message = name .. ', whose result it needs, ' .. why}
  Lifecycle.conclude(rec, 'failed', {error = err}, {'error', cjson.encode(err)}, Records.kept_ms(rec, ttl_ms))
end

-- Why a job that has ended gives no result, or nil if it gives one.
local function no_result(state, error)
  if state == 'succeeded' then return nil end
  if state == 'cancelled' then return 'was cancelled' end
  if state ~= 'failed' then return 'is not kept: it was removed, or has expired' end
  if not error then return 'failed' end
  local text = error.kind == 'exception' and error.type .. ': ' .. error.message or error.message
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
  return false, why, why and found[2] and object(found[2]).task
end

-- A new job that needs the results of others: it waits for them, is free to run if all are there, or ends if one never
-- will be.
function Followers.await(rec, needs)
  local open = {}
  for _, need in ipairs(needs) do
    local is_open, why, task = outcome_of(need)
    if why then return fail_for(rec, need, task, why, 604800000) end
    if is_open then open[#open + 1] = need end
  end
  if #open == 0 then return free_to_run(rec) end
  call('HSET', rec.key, 'waits', #open)
  for _, need in ipairs(open) do
    call('ZADD', P .. 'after:' .. need, rec.us, rec.id)
    call('ZADD', P .. 'needed', 'NX', NOW, need)
    call('HSET', P .. 'job:' .. need, 'after', 1)
  end
end

-- A job that waits for others ends before they do.
function Followers.leave(rec)
  call('HDEL', rec.key, 'waits')
  rec.waits = false
  for _, need in ipairs(Records.wish(rec, 'needs') or {}) do call('ZREM', P .. 'after:' .. need, rec.id) end
end

-- Moves as many followers of a job that has ended as this call still may.
local function settle_one(id, ttl_ms)
  local is_open, why, task = outcome_of(id)
  local key = P .. 'after:' .. id
  if not is_open then
    local found = call('ZPOPMIN', key, math.max(0, STEPS_MOST - steps))
    steps = steps + #found / 2
    for i = 1, #found, 2 do
      local follower = Records.read(found[i])
      if follower and follower.waits and tonumber(follower.us) == tonumber(found[i + 1]) then
        if why then
          fail_for(follower, id, task, why, ttl_ms)
        elseif call('HINCRBY', follower.key, 'waits', -1) <= 0 then
          free_to_run(follower)
        end
      end
    end
  end
  if call('EXISTS', key) == 0 then
    call('ZREM', P .. 'needed', id)
  else
    call('ZADD', P .. 'needed', is_open and NOW or 0, id)
    if not is_open then left = 1 end
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
    settle_one(ended[done], ttl_ms)
  end
  ended, is_settling = {}, false
end

-- Goes on with followers that calls have left over, and with those of jobs that an older version has ended.
function Followers.look_after(ttl_ms)
  local ids = call('ZRANGEBYSCORE', P .. 'needed', '-inf', NOW - LOOK_EVERY_MS, 'LIMIT', 0, LOOKED_AT_MOST)
  for _, id in ipairs(ids) do Followers.settle(id, ttl_ms) end
  if call('ZCOUNT', P .. 'needed', '-inf', 0) > 0 then left = 1 end
end
