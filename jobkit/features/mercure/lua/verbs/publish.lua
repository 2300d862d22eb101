-- Keeps an update for subscribers of the hub. args: the update (JSON), {stream ("updates" or "presence"), kept, kept_bytes
-- (entries and bytes that the stream keeps)}.
--
-- Its place is behind the newest event of the namespace, and before all later ones: so updates and events have one order,
-- and a subscriber one position. The id in the stream is that event's, with room for the updates behind it. Both streams
-- count on together, so that no id stands in both.

-- Both parts of the last id of a stream, and the entry if there is one. A stream whose last id leaves no room is put aside.
local function newest_of(name)
  local last = call('XREVRANGE', P .. name, '+', '-', 'COUNT', 1)[1]
  local ms, n = string.match(last and last[1] or '0-0', '(%d+)-(%d+)')
  ms, n = tonumber(ms), tonumber(n)
  if ms < 2^53 and n < 2^53 then return ms, n, last end
  Damage.put_aside(P .. name)
  return 0, 0
end

verb('publish', UNLESS_FULL, function(args)
  local update, options = args[1], cjson.decode(args[2])
  local stream = P .. options.stream
  local ms, n = newest_of('events')
  n = n * 1000000
  local before
  for _, name in ipairs({'updates', 'presence'}) do
    local bms, bn, last = newest_of(name)
    if bms > ms or (bms == ms and bn >= n) then ms, n = bms, bn end
    if name == options.stream then before = last end
  end
  local id = string.format('%.0f-%.0f', ms, n + 1)
  -- As many as may be kept, and not more bytes of them than a server can read for each of its subscribers. `b`: bytes of all
  -- updates before this one.
  local above = before and (tonumber(before[2][4]) or 0) + #tostring(before[2][2]) or 0
  call('XADD', stream, 'MAXLEN', '~', options.kept, id, 'u', update, 'b', string.format('%.0f', above))
  local oldest = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  while oldest[1] ~= id and steps < STEPS_MOST and above + #update - (tonumber(oldest[2][4]) or 0) > options.kept_bytes do
    steps = steps + 1
    call('XDEL', stream, oldest[1])
    oldest = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  end
  call('PUBLISH', P .. 'ch:updates', Records.event('updates', 0, 'logged', '{}'))
  return id
end)
