-- An answer by its exact fingerprint; where there is none, the lease to ask for it. KEYS as in base.lua and the
-- beginning of the keys of leases. ARGV: exact, token, milliseconds, '1' where an answer that is there won't do.
-- A token begins with 16 characters that name its worker. A lease that another worker waits for ends with '+'.
-- {id, document, known or ''}; 1: the lease is ours; 0: nothing is to be had, or our own worker has it already;
-- else another worker has it, for that many milliseconds less one.
local function found()
  local id = redis.pcall('HGET', KEYS[4], ARGV[1])
  local document = type(id) == 'string' and redis.pcall('HGET', KEYS[2], id)
  if type(document) ~= 'string' then return nil end
  local known = redis.pcall('HGET', KEYS[5], id)
  return {id, document, type(known) == 'string' and known or ''}
end

local answer = ARGV[4] == '' and found()
if answer then return answer end
local lease = KEYS[10] .. ARGV[1]
local taken = redis.pcall('SET', lease, ARGV[2], 'NX', 'PX', ARGV[3])
if type(taken) == 'table' then return taken.err and 0 or 1 end
local holder = redis.pcall('GET', lease)
if type(holder) ~= 'string' or string.sub(holder, 1, 16) == string.sub(ARGV[2], 1, 16) then return 0 end
local left = redis.call('PTTL', lease)
if left < 0 then return 0 end
if string.sub(holder, -1) ~= '+' then redis.call('SET', lease, holder .. '+', 'PX', math.max(left, 1)) end
return left + 2
