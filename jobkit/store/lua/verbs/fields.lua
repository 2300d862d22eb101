-- Reads fields of the records of jobs. args: {names, words (in lower case), first_words}, id... Returns for each id the list of
-- the fields; an empty list if they do not contain all words, or the first field not all `first_words`; false if it has no
-- record with the first field.

-- True if a number in JSON text contains a word as users see it (`query.text_of`), which is another form than the stored one for
-- numbers with an exponent, there or here, or with more digits than they see.
local function shows(json, word)
  for number in string.gmatch(json, '[:,%[](%-?[%d.]+[eE]?[%d+-]*)') do
    local value = (#number >= 15 or string.find(number, '[eE]') or string.find(number, '^%-?0%.0000')) and tonumber(number)
    if value and string.find(string.format(value % 1 == 0 and '%.0f' or '%.14g', value), word, 1, true) then return true end
  end
  return false
end

local function has_all(found, words)
  local parts = {}
  for _, value in ipairs(found) do parts[#parts + 1] = value or nil end
  local record = string.lower(table.concat(parts, '\n'))
  for _, word in ipairs(words) do
    if not string.find(record, word, 1, true) and not (string.find(word, '^[%d.e+-]+$') and shows(found[1], word)) then
      return false
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
