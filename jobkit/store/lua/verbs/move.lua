-- Moves waiting jobs to another queue or priority. args: {queue, priority, reason}, id...; what is left out stays. Returns for
-- each "" if it is there now, else why not: "unknown", "arq", or its state.
--
-- It keeps its place: the time from which it has waited. The spec stays the text that it was, with queue and priority once
-- more at its end, which wins: writing it anew would lose what Lua cannot tell, like an empty list from an empty object.
verb('move', ALSO_WHEN_FULL, function(args)
  local options = cjson.decode(args[1])
  local to, level = options.queue, options.priority
  local answers = {}
  for i = 2, #args do
    local id = args[i]
    local rec = Records.read(id)
    local answer = ''
    if not rec then
      answer = 'unknown'
    elseif rec.state ~= 'queued' and rec.state ~= 'scheduled' then
      answer = rec.state
    elseif rec.arq and to and to ~= rec.queue then
      answer = 'arq' -- its place is in arq's own queue as well
    else
      local from, queue, priority = rec.queue, to or rec.queue, level or rec.priority
      if queue ~= from or priority ~= rec.priority then
        local key = P .. 'job:' .. id
        local score, due
        if rec.state == 'queued' then
          local gate = rec.terms and call('HGET', key, 'parked')
          score = tonumber(call('ZSCORE', gate and P .. 'parked:' .. gate or P .. 'ready:' .. from, id) or rec.us)
          score = Queue.since_us(rec, score)
          call('ZREM', P .. 'ready:' .. from, id)
          if rec.terms then Limits.leave_line(rec) end
        else
          due = call('ZSCORE', P .. 'due:' .. from, id) -- none while it waits for results
          call('ZREM', P .. 'due:' .. from, id)
        end
        rec.queue, rec.priority = queue, priority
        local spec = string.gsub(rec.spec, ',"moved":true,"queue":"[%w_.:-]+","priority":%-?%d+}$', '}')
        rec.spec = string.sub(spec, 1, -2) .. string.format(',"moved":true,"queue":"%s","priority":%d}', queue, priority)
        call('SADD', P .. 'queues', queue)
        Records.emit(rec, 'moved', {queue = queue, priority = priority, reason = options.reason},
          {'queue', queue, 'priority', priority, 'spec', rec.spec})
        if score then
          Queue.ready(rec, score)
        elseif due then
          call('ZADD', P .. 'due:' .. queue, due, id)
          Queue.wake(queue) -- it must learn of the earlier time
        end
      end
    end
    answers[#answers + 1] = answer
  end
  Limits.pump()
  return answers
end)
