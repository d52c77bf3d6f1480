-- Keeps an answer in place of those with its id or exact fingerprint, and lets go who has to make room.
-- ARGV: ..., id, exact, pool, size, worth, expiry, document, known or '', entries and bytes of the quota,
-- and for each pool that is sure of some its name, entries and bytes. {1: kept, 0: there is no room, ...}
local id, exact, pool, document = ARGV[3], ARGV[4], ARGV[5], ARGV[9]
local size, worth, expiry = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local known = ARGV[10] ~= '' and ARGV[10] or nil
local is_known = known and 1 or 0
local more, most, sure = {1, size}, {tonumber(ARGV[11]), tonumber(ARGV[12])}, {}
local NONE = {0, 0}
for place = 13, #ARGV, 3 do sure[ARGV[place]] = {tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])} end

local function has_room(dimension)
  local free = most[dimension]
  for name, held in pairs(pools) do
    if name ~= pool then free = free - math.min(held[dimension], (sure[name] or NONE)[dimension]) end
  end
  return free >= more[dimension]
end

local function is_full(dimension)
  local held = more[dimension]
  for _, counts in pairs(pools) do held = held + counts[dimension] end
  return held > most[dimension]
end

-- The least valued of those pools that use more than they are sure of, ours with what is to come.
local function evict(dimension)
  local least, value
  for name, counts in pairs(pools) do
    local held = counts[dimension] + (name == pool and more[dimension] or 0)
    if held > (sure[name] or NONE)[dimension] then
      local found = redis.call('ZRANGE', POOL .. name, 0, 0, 'WITHSCORES')
      local score = tonumber(found[2])
      if not least or score < value or (score == value and found[1] < least) then least, value = found[1], score end
    end
  end
  if not least then return wipe() end
  clock = math.max(clock, value)
  if not forget(least) then wipe() end
end

-- Changes nothing, but where Redis has no memory left this is refused, before anything is changed.
local refused = redis.pcall('SETRANGE', USED, 0, '')
if type(refused) == 'table' and refused.err and string.find(refused.err, 'OOM', 1, true) then return refused end
open()
reap(20)
if expiry <= NOW or not has_room(1) or not has_room(2) then return close(0) end
forget(id)
local old = redis.call('HGET', EXACT, exact)
if old and not forget(old) then wipe() end
for dimension = 1, 2 do
  while is_full(dimension) do evict(dimension) end
end
if not pools[pool] then
  redis.call('DEL', POOL .. pool)
  pools[pool] = {0, 0, 0}
end
local held = pools[pool]
held[1], held[2], held[3] = held[1] + 1, held[2] + size, held[3] + is_known
latest = math.max(latest, expiry)
redis.call('HSET', DOCUMENTS, id, document)
redis.call('HSET', ROWS, id, cmsgpack.pack({pool, size, worth, exact, 0, is_known}))
redis.call('HSET', EXACT, exact, id)
if known then redis.call('HSET', KNOWN, id, known) end
redis.call('ZADD', EXPIRY, ARGV[8], id)
redis.call('ZADD', POOL .. pool, clock + worth / math.max(size, 1), id)
-- Whoever has the lease to ask for it need not hold it any more; other workers that wait for it hear of that by the log.
local holder = redis.pcall('GET', LEASE .. exact)
if holder then redis.call('DEL', LEASE .. exact) end
if type(holder) == 'string' and string.sub(holder, -1) == '+' then awaited = exact end
return close(1, id, known)
