-- The rights that the caller's user lacks, as phrases. args: names of commands that it needs.
local LEN_MOST = 6

verb('rights', READS_ONLY, function(args)
  -- Whether the user may run a command. It needs as many arguments as the command takes at least: the last one is repeated.
  local function may(parts)
    while #parts <= LEN_MOST do
      local is_known, allowed = pcall(redis.acl_check_cmd, unpack(parts))
      if is_known then return allowed end
      parts[#parts + 1] = parts[#parts]
    end
    return true -- a command of another server
  end

  local key, channel, lacks = P .. 'place', P .. 'all', {}
  local is_heard = may({'SUBSCRIBE', channel}) or may({'PUBLISH', channel, ''})
  local reads, writes = may({'EXISTS', key}) or may({'HGET', key}), may({'SET', key}) or may({'HSET', key})
  if not reads then lacks[#lacks + 1] = 'the keys ' .. P .. '*' end
  if reads and not writes then lacks[#lacks + 1] = 'writing the keys ' .. P .. '*' end
  if not is_heard then lacks[#lacks + 1] = 'the channels ' .. P .. '*' end
  for _, name in ipairs(args) do
    local parts = {}
    for part in string.gmatch(name, '%S+') do parts[#parts + 1] = part end
    local is_of_channels = parts[1] == 'PUBLISH' or parts[1] == 'SUBSCRIBE'
    parts[#parts + 1] = is_of_channels and channel or key
    local is_excused = is_of_channels and not is_heard or not is_of_channels and not (reads and writes)
    if not is_excused and not may(parts) then lacks[#lacks + 1] = 'the command ' .. name end
  end
  return lacks
end)
