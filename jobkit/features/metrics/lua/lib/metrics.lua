-- Lines of the metrics of jobs: `metrics:{id}` (list). The name of a line begins with how it is kept: "append", "replace" the last
-- one, or the "whole". `told`: what subscribers get instead of it, or "".

Records.also_keep('metrics')

on('keeps', function(id, name, told, line, seq)
  local key, how = P .. 'metrics:' .. id, string.match(name, '^%a+')
  if how == 'whole' then call('DEL', key) end
  if how == 'replace' and call('LLEN', key) > 0 then call('LSET', key, -1, line) else call('RPUSH', key, line) end
  told = told ~= '' and told or line
  call('PUBLISH', P .. 'ch:' .. id, Records.event(id, seq, 'logged', '{"lines":[],"metrics":' .. told .. '}'))
end, 'metrics')
