-- ARGV: most leases at a time. Charges and ends leases that nobody has renewed.
-- For each: its id, what it was charged, when that had been reserved (s), its rules.
local now = clock()
local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', math.floor(now * 1000), 'LIMIT', 0, ARGV[1])) do
  local lease = redis.call('HMGET', lease_key(id), 'c', 'k', 'm', 'at')
  let_go(id)
  if lease[1] then
    local budgets, limits = unpack(cmsgpack.unpack(lease[3]))
    for _, budget in ipairs(budgets) do
      if is_known(budget) then
        reserve(budget, negative(lease[1]))
        book(budget, bucket_of(budget, tonumber(lease[4])), now, lease[1])
      end
    end
    for _, limit in ipairs(limits) do leave(limit, now, 0) end
    redis.call('SET', '{fp}:charged:' .. id, lease[1] .. ' ' .. lease[4], 'PX', 86400000)
    reply[#reply + 1] = {id, lease[1], tonumber(lease[4]), lease[3]}
  end
end
return reply
