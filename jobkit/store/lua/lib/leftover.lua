-- Work that calls have left over. A call moves so many jobs beside those that it names (`STEPS_MOST`), so that none holds up others. What
-- is left over is kept in `left` (sorted set), and nothing is lost if the caller dies: it goes on at once by `settle`, else the
-- next heartbeat of any worker does.
--
-- Members are "followers ID", "needs ID", "rule GATE", "batch ID", "recount ID" and "relist INDEX SOURCE"; the score is where to go on.

local LOOKED_AT_MOST = 100

function Leftover.keep(kind, name, from)
  call('ZADD', P .. 'left', from, kind .. ' ' .. name)
  left = 1
end

-- 1 if this call has left something over, else 0. The last thing that a call does.
function Leftover.is_any()
  Batches.flush()
  return left
end

-- Goes on with what calls have left over.
function Leftover.go_on(ttl_ms)
  left = 0
  local goes_on = {followers = Followers.settle, needs = Followers.go_on, rule = Limits.count_running, relist = Damage.relist,
    batch = Batches.cancel_rest, recount = Batches.recount}
  local has_done = false
  local found = call('ZRANGE', P .. 'left', 0, LOOKED_AT_MOST - 1, 'WITHSCORES')
  for i = 1, #found, 2 do
    local kind, name = string.match(found[i], '^(%a+) (.*)$')
    if goes_on[kind] and steps < STEPS_MOST then
      has_done = true
      call('ZREM', P .. 'left', found[i])
      goes_on[kind](name, ttl_ms, tonumber(found[i + 1]))
    elseif goes_on[kind] then
      left = 1
    end
  end
  if has_done and #found == 2 * LOOKED_AT_MOST then left = 1 end
end
