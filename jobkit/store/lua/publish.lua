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
-- As many as may be kept, and not more bytes of them than a server can read for each of its subscribers. `b`: bytes of all
-- updates before this one.
local UPDATES_BYTES = 32000000
local above = before and (tonumber(before[2][4]) or 0) + #before[2][2] or 0
redis.call('XADD', P .. 'updates', 'MAXLEN', '~', 10000, id, 'u', ARGV[1], 'b', string.format('%.0f', above))
local oldest = redis.call('XRANGE', P .. 'updates', '-', '+', 'COUNT', 1)[1]
while oldest[1] ~= id and above + #ARGV[1] - (tonumber(oldest[2][4]) or 0) > UPDATES_BYTES do
  redis.call('XDEL', P .. 'updates', oldest[1])
  oldest = redis.call('XRANGE', P .. 'updates', '-', '+', 'COUNT', 1)[1]
end
redis.call('PUBLISH', P .. 'ch:updates', '{"id":"updates","seq":0,"type":"logged","at":' .. NOW .. ',"data":{}}')
return id
