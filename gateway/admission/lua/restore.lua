-- Sets up running leases that Redis has lost, whether or not budgets cover them: their money is being spent.
-- ARGV: generation, seconds that leases live, then for each lease: id, cost, tokens, rules. How many were set up.
if outdated(ARGV[1]) then return UNSURE end
local now, count = clock(), 0
for start = 3, #ARGV, 4 do
  local id, cost = ARGV[start], ARGV[start + 1]
  if redis.call('EXISTS', lease_key(id), '{fp}:charged:' .. id) == 0 then
    local budgets, limits = unpack(cmsgpack.unpack(ARGV[start + 3]))
    for _, budget in ipairs(budgets) do
      if is_known(budget) then reserve(budget, cost) end
    end
    for _, limit in ipairs(limits) do enter(limit, now) end
    hold(id, cost, ARGV[start + 2], now, ARGV[start + 3], ARGV[2])
    count = count + 1
  end
end
return count
