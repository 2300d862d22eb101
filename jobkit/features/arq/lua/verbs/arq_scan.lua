-- Reads what has happened in a queue of arq's. args: {key (of the queue), queue (its name here), limit, window, obeys_aborts,
-- ttl_ms, from ("0", or where the last call has stopped)}.
-- Returns {NOW, members, ended, new, from}; if `from` is not "", the call has not come to an end, and `ended` and `new` are empty:
--   ended: {id, JSON of how, payload} for each job that no worker ended: arq_settle must get their results;
--   new: {id, score, ttl of the payload in ms (-1: none, -2: no payload), tries, whether the id is taken here, payload} for
--     at most `limit` of those among the first `window` members that have no record.
local LOOKED_AT = 100 -- of the jobs with records, to find those that were taken out of the queue

verb('arq_scan', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local queue, limit, window = options.key, options.limit, options.window
  local tracked = P .. 'arq:' .. queue
  local members = call('ZCARD', queue)

  local from = options.from
  if from ~= 'aborts' and (from ~= '0' or call('HLEN', tracked) > members) then -- jobs were taken out of the queue
    local page = call('HSCAN', tracked, from, 'COUNT', LOOKED_AT)
    local known = page[2]
    for i = 1, #known, 2 do
      if not call('ZSCORE', queue, known[i]) then
        local rec = Records.read(known[i + 1])
        if not rec or not rec.door then
          call('HDEL', tracked, known[i])
        elseif rec.state == 'queued' or rec.state == 'scheduled' then
          Arq.disown(rec)
        end -- one that runs may end as it would have
      end
    end
    if page[1] ~= '0' then return {NOW, members, {}, {}, page[1]} end
  end

  if options.obeys_aborts then
    for _, arq in ipairs(call('ZRANGE', 'arq:abort', 0, 999)) do
      local id = call('HGET', tracked, arq)
      local rec = id and Records.read(id)
      if rec and steps >= STEPS_MOST then return {NOW, members, {}, {}, 'aborts'} end
      if rec then
        steps = steps + 1
        Lifecycle.cancel(rec, "aborted by arq's client", options.ttl_ms)
        call('ZREM', 'arq:abort', arq)
      elseif not call('ZSCORE', queue, arq) and call('EXISTS', 'arq:job:' .. arq) == 0 then
        call('ZREM', 'arq:abort', arq) -- that job has ended; the next one of its id must not meet this
      end
    end
  end

  local ended = {}
  local finished = call('HRANDFIELD', P .. 'arq-ended:' .. queue, math.min(limit, STEPS_MOST), 'WITHVALUES')
  for i = 1, #finished, 2 do
    ended[#ended + 1] = {finished[i], finished[i + 1], call('GET', 'arq:job:' .. finished[i]) or ''}
  end

  -- Looking through the window is dear: not while half of it waits for a slot anyway.
  local new = {}
  local is_full = call('ZCARD', P .. 'ready:' .. options.queue) * 2 >= window
  if members > call('HLEN', tracked) and not is_full then
    local first = 0
    while first < window and #new < limit do
      local found = call('ZRANGE', queue, first, math.min(window, first + 500) - 1, 'WITHSCORES')
      if #found == 0 then break end
      first = first + 500
      local ids = {}
      for i = 1, #found, 2 do ids[#ids + 1] = found[i] end
      local known = call('HMGET', tracked, unpack(ids))
      for i, arq in ipairs(ids) do
        if not known[i] and #new < limit and call('EXISTS', 'arq:in-progress:' .. arq) == 0 then
          local tries = tonumber(call('GET', 'arq:retry:' .. arq) or 0)
          new[#new + 1] = {arq, found[2 * i], call('PTTL', 'arq:job:' .. arq), tries, call('EXISTS', P .. 'job:' .. arq),
            call('GET', 'arq:job:' .. arq) or ''}
        end
      end
    end
  end
  return {NOW, members, ended, new, ''}
end)
