-- Reads fields of the records of jobs. args: {names, words (in lower case), first_words}, id... Returns for each id the list of
-- the fields; an empty list if they do not contain all words, or the first field not all `first_words`; false if it has no
-- record with the first field.
--
-- A word may be from a number in the first field that users see in another form than the stored one: one with an exponent, there
-- or here, or with more digits than they see. Records with such numbers are left to the caller.
local function has_odd_number(json)
  for number in string.gmatch(json, '[:,%[]%-?([%d.]+[eE]?)') do
    if #number >= 15 or string.find(number, '[eE]$') or string.find(number, '^0%.0000') then return true end
  end
  return false
end

local function has_all(found, words)
  local parts = {}
  for _, value in ipairs(found) do parts[#parts + 1] = value or nil end
  local record = string.lower(table.concat(parts, '\n'))
  for _, word in ipairs(words) do
    if not string.find(record, word, 1, true) then
      return string.find(word, '^[%d.e+-]*%d[%d.e+-]*$') and has_odd_number(found[1])
    end
  end
  return true
end

verb('fields', READS_ONLY, function(args)
  local options, reply = cjson.decode(args[1]), {}
  local names, words, first_words = options.names, options.words, options.first_words
  for i = 2, #args do
    local key, found = P .. 'job:' .. args[i], nil
    if #first_words > 0 then -- most records need not be read in full
      local first = try('HGET', key, names[1])
      for _, word in ipairs(first_words) do
        if type(first) == 'string' and not string.find(first, word, 1, true) then found = {} end
      end
    end
    found = found or try('HMGET', key, unpack(names))
    if #found > 0 and #words > 0 and found[1] and not has_all(found, words) then found = {} end
    reply[i - 1] = not found.err and (#found == 0 or found[1]) and found or false
  end
  return reply
end)
