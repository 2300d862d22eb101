-- Puts ended jobs back that were written down elsewhere. args: for each: id, {us, state, ttl_ms, record (fields, all text),
-- log (list of {first, count, bytes, lines}), lists (lines by kind of key), parts (names), folder}, arguments, result,
-- preview, how many fields of further hashes, and kind, name, value of each. Returns 1 for each that is kept now, 0 if the id was known.
verb('restore', UNLESS_FULL, function(args)
  local answers = {}
  local i = 1
  while i <= #args do
    local id, options, count = args[i], cjson.decode(args[i + 1]), tonumber(args[i + 5])
    local us, state, ttl_ms = options.us, options.state, options.ttl_ms
    local key = P .. 'job:' .. id
    local is_new = call('EXISTS', key) == 0
    if is_new then
      if call('ZSCORE', P .. 'jobs', id) then Records.forget(id) end
      for name, value in pairs(options.record) do call('HSET', key, name, value) end
      call('PEXPIRE', key, ttl_ms)
      for n, name in ipairs({'args:', 'result:', 'preview:'}) do
        local value = args[i + 1 + n]
        if value ~= '' then call('SET', P .. name .. id, value, 'PX', ttl_ms) end
      end
      for _, chunk in ipairs(options.log) do
        call('XADD', P .. 'log:' .. id, '*', 'f', chunk[1], 'c', chunk[2], 'b', chunk[3], 'l', chunk[4])
      end
      for n = i + 6, i + 5 + 3 * count, 3 do
        call('HSET', P .. args[n] .. ':' .. id, args[n + 1], args[n + 2])
      end
      for kind, lines in pairs(options.lists) do
        for _, line in ipairs(lines) do call('RPUSH', P .. kind .. ':' .. id, line) end
      end
      for _, kind in ipairs(Records.KINDS) do call('PEXPIRE', P .. kind .. ':' .. id, ttl_ms) end
      local parts = {}
      for _, name in ipairs(options.parts or {}) do
        if not Blobs.lacking({name}) then parts[#parts + 1] = name end
      end
      if #parts > 0 then Blobs.use(id, parts) end
      if options.folder and options.folder ~= '' then
        call('HSET', P .. 'filed', id, options.folder)
        call('SREM', P .. 'litter', options.folder)
      end
      call('ZADD', P .. 'jobs', us, id)
      call('ZADD', P .. 'state:' .. state, us, id)
      call('ZADD', P .. 'expiry', NOW + ttl_ms, id)
      local rec = Records.read(id)
      call('SADD', P .. 'queues', rec.queue)
      local kept = call('HMGET', key, 'error', 'e' .. rec.seq)
      reached('restored', rec, state, kept[1] and object(kept[1]) or {})
      local event = kept[2] or '{"id":"' .. id .. '","seq":' .. rec.seq .. ',"type":"' .. state .. '","at":' .. NOW .. ',"data":{}}'
      call('PUBLISH', P .. 'all', event) -- pages that did not know the job read it
    end
    answers[#answers + 1] = is_new and 1 or 0
    i = i + 6 + 3 * count
  end
  return answers
end)
