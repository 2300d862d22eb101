-- The results, for arq's readers, of jobs that ended without their worker. ARGV: key of the queue, then for each: arq's id,
-- result, ttl_ms. Nothing happens where another worker was quicker.
for i = 2, #ARGV, 3 do
  if redis.call('HEXISTS', P .. 'arq-ended:' .. ARGV[1], ARGV[i]) == 1 then
    arq_clear(ARGV[1], ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), 0)
  end
end
return 0
