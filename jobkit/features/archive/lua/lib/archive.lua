-- Ended jobs that wait for the archive, only in a namespace that has one: its workers renew the hash `archive`. A job's entry in
-- the stream `archive:waiting` is also its record's field `_archive`. Until the archive has it, its keys live longer than the
-- job: if it is deleted or its time is over before, they are put aside under the entry's name.

local HELD_MS = 30 * 86400000 -- beyond the job's own time
local WAITING_MOST = 100000 -- entries; what ends beyond them is added by a later `archive_scan`

-- True if the namespace has an archive.
local function is_open()
  return once_a_call('archive', function() return call('EXISTS', P .. 'archive') == 1 end)
end

-- Lets an ended job wait for the archive. Returns its entry; nil if there is no archive, or if too many wait.
local function add(id)
  if not is_open() or call('XLEN', P .. 'archive:waiting') >= WAITING_MOST then return nil end
  local entry = call('XADD', P .. 'archive:waiting', '*', 'id', id)
  call('PEXPIRE', P .. 'archive:waiting', 2 * HELD_MS)
  call('HSET', P .. 'job:' .. id, '_archive', entry)
  return entry
end

-- Sets the time to live of the keys of an ended job.
local function keep(id, ttl_ms)
  for _, kind in ipairs(Records.KINDS) do call('PEXPIRE', P .. kind .. ':' .. id, ttl_ms) end
end

on('ended', function(rec, state, data, ttl_ms)
  if add(rec.id) then keep(rec.id, ttl_ms + HELD_MS) end
end)

-- The keys of a job that is deleted are put aside if it still waits for the archive, even one that no worker has had for long.
on('leaving', function(id)
  local key = P .. 'job:' .. id
  local entry = call('HGET', key, '_archive')
  if not entry or #call('XRANGE', P .. 'archive:waiting', entry, entry) == 0 then return end
  local seq = number(call('HGET', key, 'seq'))
  local last = call('HGET', key, 'e' .. seq)
  if last and string.find(last, '"type":"deleted"', 1, true) then -- it is archived as it ended
    call('HDEL', key, 'e' .. seq)
    call('HSET', key, 'seq', seq - 1)
  end
  local aside = '!' .. entry
  for _, kind in ipairs(Records.KINDS) do
    local key = P .. kind .. ':' .. id
    if call('EXISTS', key) == 1 then call('RENAME', key, P .. kind .. ':' .. aside) end
  end
  local names = {}
  for name in string.gmatch(call('HGET', P .. 'blobs', id) or '', '%S+') do names[#names + 1] = name end
  if #names > 0 then Blobs.use(aside, names) end
  local folder = call('HGET', P .. 'filed', id)
  if folder then
    call('HDEL', P .. 'filed', id)
    call('HSET', P .. 'filed', aside, folder)
  end
end)

-- The next entries to write: always the same ones until `done`, so that a file that is written twice has the same content.
-- Returns {part, entries}; part is "" if none waits.
function Archive.next_part(limit)
  local part = call('GET', P .. 'archive:part')
  if not part then
    local waiting = call('XRANGE', P .. 'archive:waiting', '-', '+', 'COUNT', limit)
    if #waiting == 0 then return {'', {}} end
    part = waiting[1][1] .. ' ' .. waiting[#waiting][1]
    call('SET', P .. 'archive:part', part)
  end
  local first, last = string.match(part, '^(%S+) (%S+)$')
  return {part, call('XRANGE', P .. 'archive:waiting', first, last)}
end

-- The archive has a part: returns 1, or 0 if it was told before.
function Archive.done(part)
  if call('GET', P .. 'archive:part') ~= part then return 0 end
  local first, last = string.match(part, '^(%S+) (%S+)$')
  for _, entry in ipairs(call('XRANGE', P .. 'archive:waiting', first, last)) do
    local name, id = entry[1], entry[2][2]
    local expires = call('ZSCORE', P .. 'expiry', id)
    if expires and call('HGET', P .. 'job:' .. id, '_archive') == name then
      keep(id, math.max(1, math.floor(expires - NOW)))
    end
    local aside = {}
    for _, kind in ipairs(Records.KINDS) do aside[#aside + 1] = P .. kind .. ':!' .. name end
    call('UNLINK', unpack(aside))
    Blobs.leave('!' .. name)
    local folder = call('HGET', P .. 'filed', '!' .. name)
    if folder then
      call('HDEL', P .. 'filed', '!' .. name)
      if call('HGET', P .. 'filed', id) ~= folder then Records.leave_files(folder) end -- else the job was imported again
    end
    call('XDEL', P .. 'archive:waiting', name)
  end
  call('DEL', P .. 'archive:part')
  return 1
end

-- Adds ended jobs that have no entry: they ended before there was an archive, or when too many waited. Returns the cursor to go on
-- with, "0" at the end.
function Archive.scan(cursor, limit)
  local found = call('ZSCAN', P .. 'expiry', cursor, 'COUNT', limit)
  for i = 1, #found[2], 2 do
    local id = found[2][i]
    local key = P .. 'job:' .. id
    local known = call('HMGET', key, 'state', '_archive')
    if IS_OVER[known[1]] and not known[2] then
      if not add(id) then return '0' end
      keep(id, math.max(1, math.floor(found[2][i + 1] - NOW)) + HELD_MS)
    end
  end
  return found[1]
end
