-- What every verb needs: the state of the call that runs, and how a verb is registered.
--
-- This library is loaded once, so its locals live as long as the server. What belongs to one call is reset by `begin`; a
-- local that another file of the library changes would keep its value for the next caller.
--
-- keys[1] is the prefix of the namespace ("jk:default:"). All other keys are built from it and from ids that were checked
-- before they came here, so a namespace lives on one server (no Redis Cluster).

local try -- redis.pcall, which returns an error instead of raising it; not there at load

-- Runs a command. A key that is damaged is put aside first, see Damage; any other error is raised.
local function call(...)
  local reply = try(...)
  if type(reply) == 'table' and reply.err then return Damage.mended(reply, ...) end
  return reply
end

-- The only clock is Redis's own: milliseconds, and microseconds, which order jobs of the same millisecond.
local P, NOW, NOW_US

local done -- what a call does once, see `first`
local known_queue, empty_line -- a queue that this call has registered, and a line in which it has found no idle worker
local ticks -- see `tick`
local ended, is_settling -- jobs whose followers are still to be settled, see Followers.settle
local left -- 1 if this call has left something over (see Leftover), so that its caller goes on by `settle`; else 0
local pythons -- which versions the workers of a queue run, see Limits.park_foreign; looked up when first needed
local rules -- of the namespace, by gate; read when first needed
local answers -- see `once_a_call`
local changed -- what this call changes in batches, by id, until Batches.flush
local waiting, is_pumping -- gates to look at when this call has done what it is for, see Limits.pump

local STEPS_MOST = 100
local steps -- jobs that this call has moved beside those that it names, see Leftover

local function begin(keys)
  try = redis.pcall
  P = keys[1]
  local time = call('TIME')
  NOW = time[1] * 1000 + math.floor(time[2] / 1000)
  NOW_US = time[1] * 1000000 + time[2]
  done, ticks = nil, 0
  known_queue, empty_line = nil, nil
  ended, is_settling, left, steps = {}, false, 0, 0
  rules, answers, pythons = nil, nil, {}
  changed, waiting, is_pumping = nil, {}, false
end

-- True the first time in a call.
local function first(what)
  done = done or {}
  local is_first = not done[what]
  done[what] = true
  return is_first
end

-- What `ask` returns the first time in a call, under a name.
local function once_a_call(name, ask)
  answers = answers or {}
  if answers[name] == nil then answers[name] = ask() end
  return answers[name]
end

-- The time in microseconds, one more with each use: what one call stores keeps its order.
local function tick()
  ticks = ticks + 1
  return NOW_US + ticks - 1
end

-- When the server runs a verb. A server above its maxmemory lets nothing grow, but what was accepted must be able to end,
-- and its worker to keep it.
local UNLESS_FULL = {'no-cluster'}
local ALSO_WHEN_FULL = {'no-cluster', 'allow-oom'}
local READS_ONLY = {'no-cluster', 'no-writes'}

local IS_OLD = (redis.REDIS_VERSION_NUM or 0) < 0x00070200

-- The format of a namespace's keys. Raise it with a change that other processes would misread, let the first submit store it in
-- `format`, and refuse jobs without it: a namespace without `format` is of format 1. Looked at once a second.
local FORMAT, LOOK_AFTER_MS = '1', 1000
local looked_at = {} -- by prefix

-- The error of a namespace of another format, or nil.
local function other_format()
  if NOW < (looked_at[P] or 0) + LOOK_AFTER_MS then return end
  local found = try('GET', P .. 'format')
  if type(found) == 'string' and found ~= FORMAT then return redis.error_reply('FORMAT ' .. found) end
  looked_at[P] = NOW
end

-- What features do at moments in a job's life, in the call that brings them about and in the order of the features (see
-- `jobkit/feature.py`): a job is stored (record), ends (record, state, data of the event, how long it is kept), is put
-- back from elsewhere (record, state, its error), is about to go with its keys (id: `leaving`), or has gone (id, state). And at `demand`, when a client asks how many workers are wanted: they add
-- (queue, resources as JSON) for each job that they would submit if a worker lived, of those due before `late`, at most so
-- many (late, most, add).
--
-- A job whose record's `uses` names a feature has more such moments, which cost other jobs nothing: it `starts` (record, lease_ms;
-- true if it may not, and has been seen to), its worker `beats` (id and token as a record, lease_ms; true if it has lost the job), it goes
-- `back` (record, when it is due or nil), or it ends. And at an `outcome` an attempt ends in a way that a feature knows, by whose name
-- it is told (record, data of the event, fields to set): the job goes on later.
--
-- What the code of a job gives to a feature, the feature `keeps` (id, name, facts, body, number of the job's last event), by the kind
-- that it is known by; see `Records.also_keep`. And at a `step`, when a job of such a kind was lost, features say how far it is (record): as text which is
-- equal for equal steps, and the same for people.
local moments = {created = {}, ended = {}, restored = {}, leaving = {}, deleted = {}, demand = {}, starts = {}, beats = {}, back = {},
  outcome = {}, keeps = {}, step = {}}

-- `user`: the feature that a job must use, or the kind that a feature `keeps`.
local function on(moment, act, user)
  local acts = moments[moment]
  acts[user or #acts + 1] = act -- `table` is not there at load
end

local function reached(moment, ...)
  for _, act in ipairs(moments[moment]) do act(...) end
end

-- The same for the features that a job uses; true if one of them says so.
local function reached_by_user(moment, rec, ...)
  local acts, is_so = moments[moment], false
  for user in string.gmatch(rec.uses, '%S+') do is_so = acts[user] and acts[user](rec, ...) or is_so end
  return is_so
end

-- What `act` returns; nil if damaged data make it fail, which a verb that only reads cannot put aside.
local function readable(act, ...)
  local is_done, reply = pcall(act, ...)
  if is_done then return reply end
  if not Damage.is_about_data(type(reply) == 'table' and reply.err or tostring(reply)) then error(reply) end
end

local function verb(name, flags, body)
  redis.register_function({
    function_name = LIBRARY .. '_' .. name,
    flags = flags,
    callback = function(keys, args)
      if IS_OLD then return redis.error_reply('OLDSERVER ' .. redis.REDIS_VERSION) end
      begin(keys)
      local refusal = other_format()
      if refusal then return refusal end
      local is_done, reply = pcall(body, args)
      if changed then Batches.flush() end -- also what a call changes that then fails
      if not is_done then error(reply, 0) end
      return reply
    end,
  })
end

-- A JSON object, or an empty table for anything else.
local function object(json)
  local ok, value = pcall(cjson.decode, json)
  return ok and type(value) == 'table' and value or {}
end

-- A number that can be counted on, 0 for anything else.
local function number(text)
  local value = tonumber(text or 0) or 0
  return value > -2^53 and value < 2^53 and value or 0
end

-- States that a job never leaves, in the order of `model/events.py`.
local ENDS = {'succeeded', 'failed', 'cancelled'}
local IS_OVER, STATES = {}, {scheduled = true, queued = true, running = true}
for i = 1, #ENDS do IS_OVER[ENDS[i]], STATES[ENDS[i]] = true, true end

-- Appends a pair to a flat list of field, value.
local function put(set, name, value)
  local n = #set
  set[n + 1], set[n + 2] = name, value
end

-- What `answer` returns for each group of `step` arguments from `start` on; it is called with the position of the group, which
-- begins with a job's id. `default` if the data of that job make it fail.
local function each(args, start, step, default, answer)
  local answers = {}
  for i = start, #args, step do
    local is_done, reply = pcall(answer, i)
    if not is_done then
      Damage.caught(args[i], reply)
      reply = default
    end
    answers[#answers + 1] = reply
  end
  return answers
end
