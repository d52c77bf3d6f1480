-- ARGV: seconds that leases live, lease ids. The places of those that are not known (from 1).
local expires = expiry(clock(), ARGV[1])
local reply = {}
for place = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[place]) then
    redis.call('ZADD', KEYS[1], expires, ARGV[place])
  else
    reply[#reply + 1] = place - 1
  end
end
return reply
