-- Holds on to a lease; one that Redis has lost is taken anew. KEYS as for lead.lua. ARGV: exact, token, milliseconds.
-- 1, or 0 where it is another's.
local lease = KEYS[10] .. ARGV[1]
local holder = redis.pcall('GET', lease)
if not holder then
  local taken = redis.pcall('SET', lease, ARGV[2], 'PX', ARGV[3])
  return taken.err and 0 or 1
end
if holder ~= ARGV[2] and holder ~= ARGV[2] .. '+' then return 0 end
return redis.call('PEXPIRE', lease, ARGV[3])
