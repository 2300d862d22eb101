-- Ends attempts. ARGV: for each: id, token, outcome, data, result, preview, delay_ms, ttl_ms, inline_bytes, folder.
-- `data` is a JSON object with error, reason, summary, usage, and for a lost attempt max_losses. Returns 1 (done), 2 (this
-- token ended it before: the reply was lost) or 0 (the token does not hold any more; nothing was changed).
exceed_memory()
local answers = {}
for i = 1, #ARGV, 10 do
  local id, token, outcome, data = ARGV[i], ARGV[i + 1], ARGV[i + 2], cjson.decode(ARGV[i + 3])
  local result, preview = ARGV[i + 4], ARGV[i + 5]
  local delay_ms, ttl_ms, inline = tonumber(ARGV[i + 6]), tonumber(ARGV[i + 7]), tonumber(ARGV[i + 8])
  local rec = read(id)
  local answer = 0
  if rec and rec.fin == token then
    answer = 2
  elseif rec and rec.state == 'running' and rec.token == token then
    answer = 1
    if ARGV[i + 9] ~= '' then redis.call('HSET', P .. 'filed', id, ARGV[i + 9]) end
    local set = {'fin', token}
    if rec.cancel and (outcome == 'retried' or outcome == 'released') then outcome = 'cancelled'; data.error = nil end
    if data.usage then set[#set + 1] = 'usage'; set[#set + 1] = cjson.encode(data.usage) end
    if data.error then set[#set + 1] = 'error'; set[#set + 1] = cjson.encode(data.error) end
    if outcome == 'lost' or (outcome == 'released' and wish(rec, 'on_lost') == 'fail') then
      redis.call('HSET', P .. 'job:' .. id, unpack(set))
      lose(rec, data.max_losses or math.huge, ttl_ms, data.reason, data.usage)
    elseif outcome == 'succeeded' or outcome == 'failed' or outcome == 'cancelled' then
      if data.summary then set[#set + 1] = 'summary'; set[#set + 1] = data.summary end
      if result ~= '' then redis.call('SET', P .. 'result:' .. id, result, 'PX', ttl_ms) end
      if outcome == 'succeeded' and rec.retried > 0 then redis.call('HDEL', P .. 'job:' .. id, 'error') end
      if preview ~= '' then redis.call('SET', P .. 'preview:' .. id, preview, 'PX', ttl_ms) end
      conclude(rec, outcome, outcome, data, set, ttl_ms, result ~= '' and #result <= inline and result or nil)
    else
      redis.call('ZREM', P .. 'leases', id)
      if rec.terms then leave_places(rec) end
      data.summary = nil
      set[#set + 1] = 'token'; set[#set + 1] = ''
      if outcome == 'retried' then
        rec.retried = rec.retried + 1
        data.retried = rec.retried
        set[#set + 1] = 'retried'; set[#set + 1] = rec.retried
      else
        rec.releases = rec.releases + 1
        data.releases = rec.releases
        set[#set + 1] = 'releases'; set[#set + 1] = rec.releases
      end
      local state = delay_ms > 0 and 'scheduled' or 'queued'
      data.state = state
      set[#set + 1] = 'state'; set[#set + 1] = state
      if state == 'scheduled' then
        data.due = NOW + delay_ms
        set[#set + 1] = 'due'; set[#set + 1] = data.due
      end
      if rec.arq then arq_return(rec, data.due) end
      move(rec, state)
      emit(rec, outcome, data, set)
      if state == 'scheduled' then
        redis.call('ZADD', P .. 'due:' .. rec.queue, data.due, id)
      else
        ready(rec, outcome == 'released' and rec.us or NOW_US) -- given back: its old place; retried: a new one
      end
      if rec.terms then pump() end
    end
  end
  answers[#answers + 1] = answer
end
return answers
