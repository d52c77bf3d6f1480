-- In front of every script that changes what a tenant keeps. KEYS: used, documents, rows, exact, known, expiry, log, due,
-- and the beginnings of the keys of pools and leases. ARGV: tenant, Unix seconds, ...
-- used: {clock, latest expiry, {pool = {entries, bytes, known}}}; a row: {pool, size, worth, exact, hits, 1 if known}.
-- Both are packed by cmsgpack; `known` is what can be found by likeness, all of which the log tells.
-- Whatever contradicts itself (keys evicted by Redis, overwritten by others) is wiped: it is a cache.
local USED, DOCUMENTS, ROWS, EXACT, KNOWN, EXPIRY, LOG, DUE, POOL, LEASE = unpack(KEYS)
local TENANT, NOW = ARGV[1], tonumber(ARGV[2])
local LOG_LENGTH, KEPT_ON_S = 10000, 3600
local clock, latest, pools, dropped, wiped = 0, 0, {}, {}, false
local awaited

local function unpacked(text)
  local read, found = pcall(cmsgpack.unpack, text)
  return read and type(found) == 'table' and found or nil
end

local function has(command, key, count)
  return redis.pcall(command, key) == count
end

local function wipe()
  redis.call('DEL', USED, DOCUMENTS, ROWS, EXACT, KNOWN, EXPIRY)
  for pool in pairs(pools) do redis.call('DEL', POOL .. pool) end
  clock, latest, pools, dropped, wiped = 0, 0, {}, {}, true
end

local function is_whole()
  local entries, known = 0, 0
  for pool, held in pairs(pools) do
    entries, known = entries + held[1], known + held[3]
    if held[1] < 1 or held[2] < 0 or not has('ZCARD', POOL .. pool, held[1]) then return false end
  end
  return has('HLEN', DOCUMENTS, entries) and has('HLEN', ROWS, entries) and has('HLEN', EXACT, entries)
    and has('ZCARD', EXPIRY, entries) and has('HLEN', KNOWN, known)
end

local function open()
  local text = redis.pcall('GET', USED)
  if text then
    local found = type(text) == 'string' and unpacked(text)
    if not found or type(found[3]) ~= 'table' then return wipe() end
    clock, latest, pools = found[1], found[2], found[3]
  end
  local read, whole = pcall(is_whole)
  if not read or not whole then wipe() end
end

-- Whether it was there.
local function forget(id)
  local text = redis.call('HGET', ROWS, id)
  if not text then return false end
  local row = unpacked(text)
  local held = row and pools[row[1]]
  if not held then
    wipe()
    return true
  end
  redis.call('HDEL', DOCUMENTS, id)
  redis.call('HDEL', ROWS, id)
  redis.call('HDEL', EXACT, row[4])
  redis.call('ZREM', EXPIRY, id)
  redis.call('ZREM', POOL .. row[1], id)
  redis.call('HDEL', KNOWN, id)
  if row[6] == 1 then dropped[#dropped + 1] = id end
  held[1], held[2], held[3] = held[1] - 1, held[2] - row[2], held[3] - row[6]
  if held[1] == 0 then pools[row[1]] = nil end
  return true
end

local function reap(most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', NOW, 'LIMIT', 0, most)) do
    if not forget(id) then return wipe() end
  end
end

-- What only we write to, and what is of no use where others have.
local function write(command, key, ...)
  local done = redis.pcall(command, key, ...)
  if type(done) ~= 'table' or not done.err then return done end
  redis.call('DEL', key)
  return redis.call(command, key, ...)
end

-- {1 or 0 or what else the script says, place in the log or '', ids that can be found no more...}
local function close(said, id, known)
  if next(pools) then
    local at = math.ceil(latest) + KEPT_ON_S
    redis.call('SET', USED, cmsgpack.pack({clock, latest, pools}))
    for place = 1, 6 do redis.call('EXPIREAT', KEYS[place], at) end
    for pool in pairs(pools) do redis.call('EXPIREAT', POOL .. pool, at) end
    write('ZADD', DUE, redis.call('ZRANGE', EXPIRY, 0, 0, 'WITHSCORES')[2], TENANT)
  else
    redis.call('DEL', USED)
    write('ZREM', DUE, TENANT)
  end
  local place = ''
  if known or wiped or awaited or #dropped > 0 then
    local event = {'t', TENANT}
    local function say(field, text)
      event[#event + 1] = field
      event[#event + 1] = text
    end
    if wiped then say('w', '1') end
    for _, gone in ipairs(dropped) do say('d', gone) end
    if known then
      say('i', id)
      say('k', known)
    end
    if awaited then say('x', awaited) end
    place = write('XADD', LOG, 'MAXLEN', '~', LOG_LENGTH, '*', unpack(event))
  end
  return {said, place, unpack(dropped)}
end
