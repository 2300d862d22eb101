-- Ended jobs that wait for the archive (see jobkit/archive), only in a namespace that has one: its workers renew the hash
-- `archive`. A job's entry in the stream `outbox` is also its record's field `out`. Until the archive has it, its keys live
-- longer than the job: if it is deleted or its time is over before, they are put aside under the entry's name.

local HELD_MS = 30 * 86400000 -- beyond the job's own time
local WAITING_MOST = 100000 -- entries; what ends beyond them is added by a later `outbox_scan`

-- True if the namespace has an archive; looked up once a call.
local function is_open()
  if has_archive == nil then has_archive = call('EXISTS', P .. 'archive') == 1 end
  return has_archive
end

-- A job has ended: returns its entry, or nil.
function Outbox.add(id)
  if not is_open() or call('XLEN', P .. 'outbox') >= WAITING_MOST then return nil end
  local entry = call('XADD', P .. 'outbox', '*', 'id', id)
  call('PEXPIRE', P .. 'outbox', 2 * HELD_MS)
  return entry
end

-- Sets the time to live of the keys of an ended job, a longer one if it waits for the archive.
function Outbox.keep(id, ttl_ms, entry)
  if entry then ttl_ms = ttl_ms + HELD_MS end
  for _, kind in ipairs(Records.KINDS) do call('PEXPIRE', P .. kind .. ':' .. id, ttl_ms) end
end

-- The keys of a job that is deleted are put aside if it still waits for the archive, even one that no worker has had for long;
-- returns their name instead of its id. `entry`, `seq`: of its record.
function Outbox.put_aside(id, entry, seq)
  if not entry or #call('XRANGE', P .. 'outbox', entry, entry) == 0 then return end
  local key = P .. 'job:' .. id
  seq = number(seq)
  local last = call('HGET', key, 'e' .. seq)
  if last and string.find(last, '"type":"deleted"', 1, true) then -- it is archived as it ended
    call('HDEL', key, 'e' .. seq)
    call('HSET', key, 'seq', seq - 1)
  end
  for _, kind in ipairs(Records.KINDS) do
    local key = P .. kind .. ':' .. id
    if call('EXISTS', key) == 1 then call('RENAME', key, P .. kind .. ':!' .. entry) end
  end
  local names = {}
  for name in string.gmatch(call('HGET', P .. 'blobs', id) or '', '%S+') do names[#names + 1] = name end
  if #names > 0 then Blobs.use('!' .. entry, names) end
  return '!' .. entry
end

-- The next entries to write: always the same ones until `done`, so that a file that is written twice has the same content.
-- Returns {part, entries}; part is "" if none waits.
function Outbox.next_part(limit)
  local part = call('GET', P .. 'outbox:part')
  if not part then
    local waiting = call('XRANGE', P .. 'outbox', '-', '+', 'COUNT', limit)
    if #waiting == 0 then return {'', {}} end
    part = waiting[1][1] .. ' ' .. waiting[#waiting][1]
    call('SET', P .. 'outbox:part', part)
  end
  local first, last = string.match(part, '^(%S+) (%S+)$')
  return {part, call('XRANGE', P .. 'outbox', first, last)}
end

-- The archive has a part: returns 1, or 0 if it was told before.
function Outbox.done(part)
  if call('GET', P .. 'outbox:part') ~= part then return 0 end
  local first, last = string.match(part, '^(%S+) (%S+)$')
  for _, entry in ipairs(call('XRANGE', P .. 'outbox', first, last)) do
    local name, id = entry[1], entry[2][2]
    local expires = call('ZSCORE', P .. 'expiry', id)
    if expires and call('HGET', P .. 'job:' .. id, 'out') == name then
      Outbox.keep(id, math.max(1, math.floor(expires - NOW)))
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
    call('XDEL', P .. 'outbox', name)
  end
  call('DEL', P .. 'outbox:part')
  return 1
end

-- Adds ended jobs that have no entry: they ended before there was an archive, or when too many waited. Returns the cursor to go on
-- with, "0" at the end.
function Outbox.scan(cursor, limit)
  local found = call('ZSCAN', P .. 'expiry', cursor, 'COUNT', limit)
  for i = 1, #found[2], 2 do
    local id = found[2][i]
    local key = P .. 'job:' .. id
    local known = call('HMGET', key, 'state', 'out')
    if IS_OVER[known[1]] and not known[2] then
      local entry = Outbox.add(id)
      if not entry then return '0' end
      call('HSET', key, 'out', entry)
      Outbox.keep(id, math.max(1, math.floor(found[2][i + 1] - NOW)), entry)
    end
  end
  return found[1]
end
