-- An answer was given out once more. KEYS as in base.lua. ARGV: id. 1, or 0 where it is not there.
local function unpacked(text)
  local read, found = pcall(cmsgpack.unpack, text)
  return read and type(found) == 'table' and found or nil
end

local row = unpacked(redis.pcall('HGET', KEYS[3], ARGV[1]))
local used = unpacked(redis.pcall('GET', KEYS[1]))
if not row or not used then return 0 end
row[5] = row[5] + 1
redis.call('HSET', KEYS[3], ARGV[1], cmsgpack.pack(row))
redis.pcall('ZADD', KEYS[9] .. row[1], 'XX', used[1] + (1 + row[5]) * row[3] / math.max(row[2], 1), ARGV[1])
return 1
