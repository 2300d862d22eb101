-- Keeps an update that somebody published for HTTP's subscribers. ARGV: the update, JSON.
--
-- Its place is behind the newest event of the namespace, and before all later ones: so updates and events have one order,
-- and a subscriber one position. The id in the stream is that event's, with room for the updates behind it.
local newest = redis.call('XREVRANGE', P .. 'events', '+', '-', 'COUNT', 1)[1]
local ms, n = string.match(newest and newest[1] or '0-0', '(%d+)-(%d+)')
ms, n = tonumber(ms), tonumber(n) * 1000000
local before = redis.call('XREVRANGE', P .. 'updates', '+', '-', 'COUNT', 1)[1]
if before then
  local bms, bn = string.match(before[1], '(%d+)-(%d+)')
  bms, bn = tonumber(bms), tonumber(bn)
  if bms > ms or (bms == ms and bn >= n) then ms, n = bms, bn end
end
local id = string.format('%.0f-%.0f', ms, n + 1)
redis.call('XADD', P .. 'updates', 'MAXLEN', '~', 10000, id, 'u', ARGV[1])
redis.call('PUBLISH', P .. 'ch:updates', '{"id":"updates","seq":0,"type":"logged","at":' .. NOW .. ',"data":{}}')
return id
