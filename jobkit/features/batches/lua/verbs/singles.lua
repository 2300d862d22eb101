-- The newest jobs of no batch. args: time of submit (us) below which to look ("" for all), how many.
-- Returns {{id, us...}, where to go on, "" at the end}. Batches are passed over by counting: a stretch of `jobs` whose jobs are all
-- in `batched` is left out, however long it is.
local LEAST = 32         -- a stretch of so many jobs is read
local STRETCHES_MOST = 1000

local function score_at(rank) return call('ZREVRANGE', P .. 'jobs', rank, rank, 'WITHSCORES')[2] end

verb('singles', READS_ONLY, function(args)
  local below, limit = args[1], tonumber(args[2])
  local jobs, batched = P .. 'jobs', P .. 'batched'
  local count, rank = call('ZCARD', jobs), below == '' and 0 or call('ZCOUNT', jobs, below, '+inf')
  local found, size, may_grow = {}, LEAST, true
  for _ = 1, STRETCHES_MOST do
    if rank >= count or #found >= 2 * limit then break end
    local last = math.min(rank + size, count) - 1
    local n = call('ZCOUNT', batched, score_at(last), score_at(rank))
    if n == last - rank + 1 then
      rank = last + 1
      if may_grow then size = size * 2 end
    elseif size > LEAST then
      size, may_grow = size / 2, false
    else
      local ids = call('ZREVRANGE', jobs, rank, last, 'WITHSCORES')
      for i = 1, #ids, 2 do
        if not call('ZSCORE', batched, ids[i]) then put(found, ids[i], ids[i + 1]) end
      end
      rank, may_grow = last + 1, true
    end
  end
  return {found, rank < count and score_at(rank - 1) or ''}
end)
