-- Large parts of calls, shared by jobs and others and named by their SHA-256. `blob:{name}` is the content, or says which
-- folder has it; `uses:{name}` (set) has its users: ids of jobs, and "KIND NAME" of others. `blobs` (hash) has the names by user, so
-- that they are known when the user's own keys have expired. A content without users expires by itself.

local UNUSED_MS = 3600000 -- between the upload and the submit of the first user

-- Keeps a content ("" to look only). Returns 0 if there is none, 1 if there was one, 2 if it is this one.
function Blobs.keep(name, content)
  local key = P .. 'blob:' .. name
  if call('EXISTS', key) == 1 then
    if call('PTTL', key) >= 0 then call('PEXPIRE', key, UNUSED_MS) end
    return 1
  end
  if content == '' then return 0 end
  call('SET', key, content, 'PX', UNUSED_MS)
  return 2
end

-- The first of these names without a content, or nil.
function Blobs.lacking(names)
  for _, name in ipairs(names) do
    if call('EXISTS', P .. 'blob:' .. name) == 0 then return name end
  end
end

-- Drops a content without users; a worker deletes its file.
local function drop_unused(name)
  local key = P .. 'blob:' .. name
  if call('EXISTS', P .. 'uses:' .. name) == 1 then return end
  local folder = string.match(call('GETRANGE', key, 0, 200), '^f(%S+) ')
  if folder then call('SADD', P .. 'litter', folder) end
  call('UNLINK', key)
end

-- These are the contents that a user needs from now on.
function Blobs.use(user, names)
  local before, is_used = call('HGET', P .. 'blobs', user), {}
  for _, name in ipairs(names) do
    is_used[name] = true
    call('SADD', P .. 'uses:' .. name, user)
    call('PERSIST', P .. 'blob:' .. name)
  end
  if #names > 0 then call('HSET', P .. 'blobs', user, table.concat(names, ' ')) end
  if not before then return end
  if #names == 0 then call('HDEL', P .. 'blobs', user) end
  for name in string.gmatch(before, '%S+') do
    if not is_used[name] then
      call('SREM', P .. 'uses:' .. name, user)
      drop_unused(name)
    end
  end
end

-- The user is gone.
function Blobs.leave(user)
  if call('HEXISTS', P .. 'blobs', user) == 1 then Blobs.use(user, {}) end
end
