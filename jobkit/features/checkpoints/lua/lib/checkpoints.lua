-- Checkpoints of jobs. `checkpoints:{id}` (hash) has the newest by their names, which are in the order of their times: facts as
-- JSON, a newline, and their sealed bytes unless they are files.

local NEWEST = 2

Records.also_keep('checkpoints')

local function names_in(key)
  local names = call('HKEYS', key)
  table.sort(names)
  return names
end

on('keeps', function(id, name, facts, body)
  local key = P .. 'checkpoints:' .. id
  call('HSET', key, name, facts .. '\n' .. body)
  local names = names_in(key)
  for n = 1, #names - NEWEST do call('HDEL', key, names[n]) end
end, 'checkpoints')

on('step', function(rec)
  local key = P .. 'checkpoints:' .. rec.id
  local names = names_in(key)
  if #names == 0 then return nil end
  local facts = object(string.match(call('HGET', key, names[#names]), '^[^\n]*'))
  local is_known = facts.text or facts.completed
  return is_known and tostring(facts.text) .. ' ' .. tostring(facts.completed) or names[#names],
    facts.text and 'its checkpoint at ' .. tostring(facts.text) or 'the same checkpoint'
end)
