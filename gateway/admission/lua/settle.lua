-- ARGV: generation, number of this batch, then for each lease: id, cost, tokens.
-- {now in seconds, places of leases that are not known (from 1)...}. A batch that is sent twice counts once.
if outdated(ARGV[1]) then return {UNSURE} end
local last = redis.call('HMGET', KEYS[2], 's', 'u')
if last[1] == ARGV[2] then return cmsgpack.unpack(last[2]) end
local now = clock()
local reply = {math.floor(now)}
for start = 3, #ARGV, 3 do
  local id, cost, tokens = ARGV[start], ARGV[start + 1], tonumber(ARGV[start + 2])
  local lease = redis.call('HMGET', lease_key(id), 'c', 'k', 'm')
  if lease[1] then
    local budgets, limits = unpack(cmsgpack.unpack(lease[3]))
    for _, budget in ipairs(budgets) do
      if is_known(budget) then
        reserve(budget, negative(lease[1]))
        book(budget, bucket_of(budget, now), now, cost)
      end
    end
    for _, limit in ipairs(limits) do leave(limit, now, tonumber(lease[2]) - tokens) end
    let_go(id)
  else
    reply[#reply + 1] = (start - 3) / 3 + 1
  end
end
redis.call('HSET', KEYS[2], 's', ARGV[2], 'u', cmsgpack.pack(reply))
redis.call('PEXPIRE', KEYS[2], IDLE_MS)
return reply
