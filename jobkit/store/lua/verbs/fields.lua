-- Reads fields of the records of jobs. args: {names, words (in lower case)}, id... Returns for each id the list of the fields;
-- an empty list if they do not contain all words, false if it has no record with the first of them.
--
-- A word with a digit may be from a number that users see in another form than the stored one: one with an exponent, there or
-- here, or with more digits than they see. Records with such numbers are left to the caller.
local NUMBER = '[:,%[]%-?' -- how one begins in JSON

local function has_all(found, words)
  local parts = {}
  for _, value in ipairs(found) do parts[#parts + 1] = value or nil end
  local record = string.lower(table.concat(parts, '\n'))
  for _, word in ipairs(words) do
    if not string.find(record, word, 1, true) then
      return string.find(word, '%d') and (string.find(record, NUMBER .. '[%d.]+e') or string.find(record, NUMBER .. '0%.0000')
        or string.find(record, NUMBER .. string.rep('[%d.]', 15)))
    end
  end
  return true
end

verb('fields', READS_ONLY, function(args)
  local options, reply = cjson.decode(args[1]), {}
  local names, words = options.names, options.words
  for i = 2, #args do
    local found = try('HMGET', P .. 'job:' .. args[i], unpack(names))
    if found.err or not found[1] then
      reply[i - 1] = false
    else
      reply[i - 1] = (#words == 0 or has_all(found, words)) and found or {}
    end
  end
  return reply
end)
