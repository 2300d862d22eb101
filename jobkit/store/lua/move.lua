-- Moves waiting jobs to another queue or priority. ARGV: queue or "", priority or "", reason, id... Returns for each "" where
-- it is there now, else why not: "unknown", "arq", or its state.
--
-- It keeps its place: the time from which it has waited. The spec stays the text that it was, with queue and priority once
-- more at its end, where they win: writing it anew would lose what Lua cannot tell, like an empty list from an empty object.
exceed_memory()
hold()
local to, level, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local answers = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local rec = read(id)
  local answer = ''
  if not rec then
    answer = 'unknown'
  elseif rec.state ~= 'queued' and rec.state ~= 'scheduled' then
    answer = rec.state
  elseif rec.arq and to ~= '' and to ~= rec.queue then
    answer = 'arq' -- its place is in arq's own queue as well
  else
    local from, queue, priority = rec.queue, to ~= '' and to or rec.queue, level or rec.priority
    if queue ~= from or priority ~= rec.priority then
      local key = P .. 'job:' .. id
      local score, due
      if rec.state == 'queued' then
        local gate = rec.terms and redis.call('HGET', key, 'parked')
        score = tonumber(redis.call('ZSCORE', gate and P .. 'parked:' .. gate or P .. 'ready:' .. from, id) or rec.us)
        score = score + rec.priority * PRIORITY_US
        redis.call('ZREM', P .. 'ready:' .. from, id)
        if rec.terms then leave_line(rec) end
      else
        due = redis.call('ZSCORE', P .. 'due:' .. from, id) -- none while it waits for results
        redis.call('ZREM', P .. 'due:' .. from, id)
      end
      rec.queue, rec.priority = queue, priority
      local spec = string.gsub(rec.spec, ',"moved":true,"queue":"[%w_.:-]+","priority":%-?%d+}$', '}')
      rec.spec = string.sub(spec, 1, -2) .. string.format(',"moved":true,"queue":"%s","priority":%d}', queue, priority)
      redis.call('SADD', P .. 'queues', queue)
      emit(rec, 'moved', {queue = queue, priority = priority, reason = reason}, 
        {'queue', queue, 'priority', priority, 'spec', rec.spec})
      if score then
        ready(rec, score)
      elseif due then
        redis.call('ZADD', P .. 'due:' .. queue, due, id)
        local worker = idlest(queue) -- it must learn of the earlier time
        if worker then redis.call('PUBLISH', P .. 'inbox:' .. worker.id, 'W') end
      end
    end
  end
  answers[#answers + 1] = answer
end
pump()
return answers
