-- Costs of calls whose lease Redis does not know: it was never granted (the store was away), was lost, or has expired.
-- ARGV: generation, number of this batch, then for each: lease id, cost, rules.
-- {now in seconds}, then for each what an expired lease was charged already ('' for none) and when it was reserved.
if outdated(ARGV[1]) then return {UNSURE} end
local last = redis.call('HMGET', KEYS[2], 's', 'u')
if last[1] == ARGV[2] then return cmsgpack.unpack(last[2]) end
local now = clock()
local reply = {math.floor(now)}
for start = 3, #ARGV, 3 do
  local cost, charged = ARGV[start + 1], redis.call('GET', '{fp}:charged:' .. ARGV[start])
  local budgets = cmsgpack.unpack(ARGV[start + 2])[1]
  reply[#reply + 1] = charged or ''
  local amount, at = string.match(charged or '', '^(%d+) (%d+)$')
  for _, budget in ipairs(budgets) do
    if is_known(budget) then
      local bucket = bucket_of(budget, amount and tonumber(at) or now)
      book(budget, bucket, now, cost)
      if amount then book(budget, bucket, now, negative(amount)) end
    end
  end
  if charged then redis.call('DEL', '{fp}:charged:' .. ARGV[start]) end
end
redis.call('HSET', KEYS[2], 's', ARGV[2], 'u', cmsgpack.pack(reply))
redis.call('PEXPIRE', KEYS[2], IDLE_MS)
return reply
