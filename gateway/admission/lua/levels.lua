-- ARGV: epoch, rules of any kind. Now (s), then for each budget: reserved, then spent of each bucket that counts.
if not same_epoch(ARGV[1]) then return UNSURE end
local now = clock()
local reply = {math.floor(now)}
for _, budget in ipairs(cmsgpack.unpack(ARGV[2])[1]) do
  local first, one = bucket_of(budget, now) - budget[6], {}
  local known = redis.call('HGETALL', budget_key(budget))
  for place = 1, #known, 2 do
    local bucket = tonumber(known[place])
    if known[place] == 'r' then
      table.insert(one, 1, known[place + 1])
    elseif bucket and bucket >= first then
      one[#one + 1] = known[place + 1]
    end
  end
  reply[#reply + 1] = one
end
return reply
