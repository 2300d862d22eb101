-- Ends attempts. args: for each: id, token, outcome, {ttl_ms, inline_bytes (a result up to this size goes with the event),
-- delay_ms, folder, arq_ttl_ms and arq_hold_ms (see Arq.clear), data {error, reason, summary, usage, and for a lost attempt
-- max_losses}}, result, preview, result for arq's readers.
-- Returns 1 (done), 2 (this token ended it before: the reply was lost) or 0 (the token does not hold any more; nothing was
-- changed).
verb('finish', ALSO_WHEN_FULL, function(args)
  local answers = {}
  for i = 1, #args, 7 do
    local id, token, outcome, options = args[i], args[i + 1], args[i + 2], cjson.decode(args[i + 3])
    local result, preview = args[i + 4], args[i + 5]
    local data, ttl_ms, delay_ms = options.data, options.ttl_ms, options.delay_ms or 0
    local rec = Records.read(id)
    local answer = 0
    if rec and rec.cancel and (outcome == 'retried' or outcome == 'released') then outcome = 'cancelled'; data.error = nil end
    if rec and (rec.fin == token or (rec.token == token and rec.state ~= 'running')) then
      answer = 2
    elseif rec and rec.state == 'running' and rec.token == token then
      answer = 1
      if options.arq_ttl_ms then
        rec.for_arq = {body = args[i + 6], ttl_ms = options.arq_ttl_ms, hold_ms = options.arq_hold_ms}
      end
      if options.folder then call('HSET', P .. 'filed', id, options.folder) end
      local set = {}
      if data.usage then set[#set + 1] = 'usage'; set[#set + 1] = cjson.encode(data.usage) end
      if data.error then set[#set + 1] = 'error'; set[#set + 1] = cjson.encode(data.error) end
      if outcome == 'lost' or (outcome == 'released' and Records.wish(rec, 'on_lost') == 'fail') then
        call('HSET', P .. 'job:' .. id, 'fin', token, unpack(set))
        Lifecycle.lose(rec, data.max_losses or math.huge, ttl_ms, data.reason, data.usage)
      elseif outcome == 'succeeded' or outcome == 'failed' or outcome == 'cancelled' then
        if data.summary then set[#set + 1] = 'summary'; set[#set + 1] = data.summary end
        if result ~= '' then call('SET', P .. 'result:' .. id, result, 'PX', ttl_ms) end
        if outcome == 'succeeded' and rec.retried > 0 then call('HDEL', P .. 'job:' .. id, 'error') end
        if preview ~= '' then call('SET', P .. 'preview:' .. id, preview, 'PX', ttl_ms) end
        Lifecycle.conclude(rec, outcome, outcome, data, set, ttl_ms, result ~= '' and #result <= options.inline_bytes and result or nil)
      else
        call('ZREM', P .. 'leases', id)
        if rec.terms then Limits.leave_places(rec) end
        data.summary = nil
        local n = #set
        set[n + 1], set[n + 2], set[n + 3], set[n + 4] = 'token', '', 'fin', token
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
        if rec.arq then Arq.give_back(rec, data.due) end
        Records.move(rec, state)
        Records.emit(rec, outcome, data, set)
        if state == 'scheduled' then
          call('ZADD', P .. 'due:' .. rec.queue, data.due, id)
        else
          Queue.ready(rec, outcome == 'released' and rec.us or NOW_US) -- given back: its old place; retried: a new one
        end
        if rec.terms then Limits.pump() end
      end
    end
    answers[#answers + 1] = answer
  end
  return answers
end)
