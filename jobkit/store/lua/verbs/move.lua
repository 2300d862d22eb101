-- Moves waiting jobs to another queue or priority. args: {queue, priority, reason}, id...; what is left out stays. Returns for
-- each "" if it is there now, else why not: "unknown", the door by which it came, or its state.
--
-- It keeps its place: the time from which it has waited. The spec stays the text that it was, with queue and priority once
-- more at its end, which wins: writing it anew would lose what Lua cannot tell, like an empty list from an empty object.
verb('move', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local answers = each(args, 2, 1, 'unknown', function(i)
    local rec = Records.read(args[i])
    if not rec then return 'unknown' end
    if rec.state ~= 'queued' and rec.state ~= 'scheduled' then return rec.state end
    local from, queue, priority = rec.queue, options.queue or rec.queue, options.priority or rec.priority
    if rec.door and queue ~= from then return rec.door end -- its place is in a queue of its client as well
    if queue == from and priority == rec.priority then return '' end
    local score, due
    if rec.state == 'queued' then
      local gate = rec.terms and call('HGET', rec.key, 'parked')
      score = call('ZSCORE', gate and P .. 'parked:' .. gate or P .. 'ready:' .. from, rec.id)
      score = Queue.since_us(rec, tonumber(score or rec.us))
    else
      due = call('ZSCORE', P .. 'due:' .. from, rec.id) -- none while it waits for results
    end
    Queue.leave(rec)
    rec.queue, rec.priority = queue, priority
    local spec = string.gsub(rec.spec, ',"moved":true,"queue":"[%w_.:-]+","priority":%-?%d+}$', '}')
    rec.spec = string.sub(spec, 1, -2)
      .. string.format(',"moved":true,"queue":%s,"priority":%d}', cjson.encode(queue), priority)
    call('SADD', P .. 'queues', queue)
    Records.emit(rec, 'moved', {queue = queue, priority = priority, reason = options.reason},
      {'queue', queue, 'priority', priority, 'spec', rec.spec})
    if score or due then Queue.line_up(rec, due, score) end
    return ''
  end)
  Limits.pump()
  return answers
end)
