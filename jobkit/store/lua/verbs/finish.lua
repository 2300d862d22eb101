-- Ends attempts. args: for each: id, token, outcome, {ttl_ms, inline_bytes (a result up to this size goes with the event),
-- delay_ms, unstarted (released before any of its code has run), folder, given (what a feature says with the end), data {error, reason, summary,
-- usage (JSON text), and for a lost attempt max_losses, shared (others were lost with it)}}, result, preview, bytes that go with `given`.
-- Returns 1 (done), 2 (this token ended it before: the reply was lost), 0 (the token does not hold any more; nothing was
-- changed) or 3 (the job's data are damaged), and last 1 if something is left over, see Leftover.
verb('finish', ALSO_WHEN_FULL, function(args)
  local answers = each(args, 1, 7, 3, function(i)
    local id, token, outcome, options = args[i], args[i + 1], args[i + 2], cjson.decode(args[i + 3])
    local result, preview, data, ttl_ms = args[i + 4], args[i + 5], options.data, options.ttl_ms
    local rec = Records.read(id)
    if not rec then return 0 end
    if rec.fin == token or (rec.token == token and rec.state ~= 'running') then return 2 end
    if not (rec.state == 'running' and rec.token == token) then return 0 end
    if rec.cancel and not IS_OVER[outcome] and outcome ~= 'lost' then outcome = 'cancelled'; data.error = nil end
    if options.given then rec.given, rec.given_body = options.given, args[i + 6] end
    if options.folder then call('HSET', P .. 'filed', id, options.folder) end
    local set = {}
    if data.usage then put(set, 'usage', data.usage) end
    if data.error then put(set, 'error', cjson.encode(data.error)) end
    if outcome == 'lost' or (outcome == 'released' and not options.unstarted and Records.wish(rec, 'on_lost') == 'fail') then
      call('HSET', rec.key, 'fin', token, unpack(set))
      Lifecycle.lose(rec, data.max_losses or math.huge, ttl_ms, not data.shared,
        (data.reason or '') .. (data.shared and ', with other jobs' or ''), data.usage)
    elseif IS_OVER[outcome] then
      if data.summary then put(set, 'summary', data.summary) end
      if result ~= '' then call('SET', P .. 'result:' .. id, result, 'PX', ttl_ms) end
      if outcome == 'succeeded' and rec.retried > 0 then call('HDEL', rec.key, 'error') end
      if preview ~= '' then call('SET', P .. 'preview:' .. id, preview, 'PX', ttl_ms) end
      Lifecycle.conclude(rec, outcome, data, set, ttl_ms, result ~= '' and #result <= options.inline_bytes and result or nil)
    elseif moments.outcome[outcome] then
      put(set, 'fin', token)
      moments.outcome[outcome](rec, data, set)
    else
      data.summary = nil
      local count = outcome == 'retried' and 'retried' or 'releases'
      rec[count] = rec[count] + 1
      data[count] = rec[count]
      put(set, count, rec[count])
      put(set, 'fin', token)
      -- Given back: its old place in the line; retried: a new one.
      Lifecycle.go_back(rec, outcome, data, set, outcome == 'released' and rec.us or NOW_US, options.delay_ms or 0)
    end
    return 1
  end)
  answers[#answers + 1] = Leftover.is_any()
  return answers
end)
