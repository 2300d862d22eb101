-- Questions that running jobs ask people. `asks:{id}` has, by the key of each question of a job: `q:KEY` the sealed question as long as it is open,
-- `a:KEY` the sealed answer, `s:KEY` {at, due, by, done, late}. The record's field `asking` lists the open ones, `questions`
-- counts all, and `for_answer` says that the job waits for an answer without a slot.

local QUESTIONS_MOST = 1000 -- of one job
local DOOR_WAITS_MS = 60000 -- other clients know no wait without an end: a job that came by a door starts again so often

Records.KINDS[#Records.KINDS + 1] = 'asks'

local function asks(rec) return P .. 'asks:' .. rec.id end

local function read(rec)
  if rec.questions == nil then rec.questions, rec.asking = unpack(call('HMGET', rec.key, 'questions', 'asking')) end
end

local function open_of(rec)
  read(rec)
  return rec.asking and object(rec.asking) or {}
end

-- Emits an event that changes the open questions.
local function emit(rec, kind, open, data, set)
  data.asking = open
  if #open > 0 then
    rec.asking = cjson.encode(open)
    put(set, 'asking', rec.asking)
    call('ZADD', P .. 'asking', rec.us, rec.id)
  else
    rec.asking = false
    call('HDEL', rec.key, 'asking')
    call('ZREM', P .. 'asking', rec.id)
  end
  Records.emit(rec, kind, data, set)
end

-- A question is not open any more.
local function close(rec, key, kind, state, data)
  call('HSET', asks(rec), 's:' .. key, cjson.encode(state))
  call('HDEL', asks(rec), 'q:' .. key) -- it may be large
  local open, text = {}, ''
  for _, one in ipairs(open_of(rec)) do
    if one.key == key then text = one.text else open[#open + 1] = one end
  end
  data.key, data.text, data.asked_at = key, text, state.at
  emit(rec, kind, open, data, {})
end

-- A running job asks, or asks again. Returns 'answer' and the sealed answer; 'wait' and the milliseconds left (-1: no limit);
-- 'late' if no answer came in time; or 'many'.
function Questions.ask(rec, key, text, timeout_ms, sealed)
  read(rec)
  local answer = call('HGET', asks(rec), 'a:' .. key)
  if answer then return {'answer', answer} end
  local kept = call('HGET', asks(rec), 's:' .. key)
  local state = kept and object(kept)
  if not state then
    local count = number(rec.questions) + 1
    if count > QUESTIONS_MOST then return {'many', ''} end
    state = {at = NOW, due = timeout_ms and NOW + timeout_ms or nil}
    call('HSET', asks(rec), 'q:' .. key, sealed, 's:' .. key, cjson.encode(state))
    local open = open_of(rec)
    open[#open + 1] = {key = key, text = text, at = NOW, due = state.due}
    local set = {'questions', count}
    if count == 1 then put(set, 'uses', (rec.uses and rec.uses .. ' ' or '') .. 'questions') end
    emit(rec, 'asked', open, {key = key, text = text}, set)
  elseif not state.late and state.due and NOW >= state.due then
    state.late = true
    close(rec, key, 'unanswered', state, {})
  end
  if state.late then return {'late', ''} end
  return {'wait', state.due and state.due - NOW or -1}
end

-- A user answers. Returns 'done' and since when it was open; else why not: 'answered', who and when; 'late' and until when
-- it was open; 'ended' and the job's state; 'none'.
function Questions.answer(rec, key, sealed, by, said)
  local kept = call('HGET', asks(rec), 's:' .. key)
  if not kept then return {'none'} end
  local state = object(kept)
  if state.done then return {'answered', state.by, state.done} end
  if state.late or (state.due and NOW >= state.due) then return {'late', state.due} end
  if IS_OVER[rec.state] then return {'ended', rec.state} end
  state.by, state.done = by, NOW
  call('HSET', asks(rec), 'a:' .. key, sealed)
  close(rec, key, 'answered', state, {by = by, said = said})
  if rec.state == 'running' then
    call('PUBLISH', P .. 'inbox:' .. rec.worker, 'Q' .. rec.id)
  elseif rec.state == 'scheduled' and call('HDEL', rec.key, 'for_answer') == 1 then
    call('ZREM', P .. 'due:' .. rec.queue, rec.id)
    Queue.enter(rec)
    Queue.ready(rec, rec.us)
  end
  return {'done', state.at}
end

-- An attempt ends to wait for an answer without a slot: until there is one, or the first open question is late.
on('outcome', function(rec, data, set)
  local due
  for _, one in ipairs(open_of(rec)) do due = math.min(due or math.huge, one.due or math.huge) end
  if not due then return Lifecycle.go_back(rec, 'released', data, set, rec.us, 0) end -- there is one already
  if rec.door then return Lifecycle.go_back(rec, 'released', data, set, rec.us, DOOR_WAITS_MS) end
  local has_limit = due < math.huge
  put(set, 'state', 'scheduled')
  put(set, 'token', '')
  put(set, 'for_answer', 1)
  if has_limit then put(set, 'due', due) else call('HDEL', rec.key, 'due') end
  data.state, data.due = 'scheduled', has_limit and due or 0
  Queue.leave(rec)
  Records.move(rec, 'scheduled')
  Records.emit(rec, 'released', data, set)
  if has_limit then Queue.line_up(rec, due) end
  if rec.terms then Limits.pump() end
end, 'asked')

-- It goes on by itself from now on.
on('starts', function(rec)
  read(rec)
  if rec.asking then call('HDEL', rec.key, 'for_answer') end
end, 'questions')

-- The job has ended: its questions cannot be answered any more.
on('ended', function(rec, state, data, ttl_ms)
  call('PEXPIRE', asks(rec), ttl_ms)
  call('HDEL', rec.key, 'asking')
  call('ZREM', P .. 'asking', rec.id)
end, 'questions')

on('leaving', function(id) call('ZREM', P .. 'asking', id) end)
