-- Gives a lease back without an answer. KEYS as for lead.lua. ARGV: tenant, exact, token, '1' where nobody needs to wait
-- for another one either. 1 where it was ours; those who wait for it hear of it by the log.
local lease = KEYS[10] .. ARGV[2]
local holder = redis.pcall('GET', lease)
if holder ~= ARGV[3] and holder ~= ARGV[3] .. '+' then return 0 end
redis.call('DEL', lease)
if holder ~= ARGV[3] then
  local event = {'t', ARGV[1], ARGV[4] == '1' and 'e' or 'x', ARGV[2]}
  redis.pcall('XADD', KEYS[7], 'MAXLEN', '~', 10000, '*', unpack(event))
end
return 1
