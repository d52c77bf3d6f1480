-- Teaches Redis budgets that it does not know, and what was spent of them. The epoch, a new one where there is none.
-- ARGV: an epoch to begin where there is none, then for each: budget id, msgpack {bucket, spent, bucket, spent...}.
redis.call('SET', '{fp}:epoch', ARGV[1], 'NX')
for start = 2, #ARGV, 2 do
  local key = '{fp}:budget:' .. ARGV[start]
  if redis.call('HSETNX', key, 'r', '0') == 1 then
    touch(key, nil, clock())
    local sums = cmsgpack.unpack(ARGV[start + 1])
    for place = 1, #sums, 2 do redis.call('HSET', key, sums[place], sums[place + 1]) end
  end
end
return redis.call('GET', '{fp}:epoch')
