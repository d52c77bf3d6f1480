-- ARGV: rules, generation, epoch, lease id, more cost, what it has reserved, its tokens, seconds that leases live.
-- {1}: reserved; {0}: a budget does not cover it, or the lease has expired. A lease that was lost is set up again.
if outdated(ARGV[2]) or not same_epoch(ARGV[3]) then return {UNSURE} end
local now = clock()
local budgets, limits = unpack(cmsgpack.unpack(ARGV[1]))
local there = redis.call('EXISTS', lease_key(ARGV[4])) == 1
if not there and redis.call('EXISTS', '{fp}:charged:' .. ARGV[4]) == 1 then return {0} end
local needed = tonumber(ARGV[5]) + (there and 0 or tonumber(ARGV[6]))
for _, budget in ipairs(budgets) do
  local free = free_of(budget, now)
  if not free then return {UNSURE} end
  if budget[7] == 1 and needed > free and needed > 0 then return {0} end
end
if not there then
  for _, limit in ipairs(limits) do enter(limit, now) end
  for _, budget in ipairs(budgets) do reserve(budget, ARGV[6]) end
  hold(ARGV[4], ARGV[6], ARGV[7], now, ARGV[1], ARGV[8])
end
for _, budget in ipairs(budgets) do reserve(budget, ARGV[5]) end
redis.call('HINCRBY', lease_key(ARGV[4]), 'c', ARGV[5])
redis.call('HSET', lease_key(ARGV[4]), 'at', math.floor(now))
return {1}
