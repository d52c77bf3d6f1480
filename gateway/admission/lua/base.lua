-- What all scripts share: the clock, names of keys, windows of budgets (windows.py), pace of limits (pacing.py), money.
--
-- KEYS[1] {fp}:leases          zset   lease id -> when it expires (ms: whole numbers are kept cheaper)
-- KEYS[2] {fp}:worker:<id>     hash   g: the newest connection heard of, s: the last batch of settlements, u, at: its reply
-- {fp}:lease:<id>              hash   c: reserved (nUSD), k: tokens, at: last admission or extension (s), m: its rules
-- {fp}:charged:<id>            string what an expired lease was charged (nUSD), and when it had been reserved (s)
-- {fp}:budget:<id>             hash   r: reserved (nUSD), <first second of a bucket>: spent (nUSD), x
--                                     x: since when the key's idle time counts (s), so that not every step sets it
-- {fp}:limit:<id>              hash   q, k: TAT of requests and of tokens (s), n: calls that run, x
-- {fp}:epoch                   string changes whenever Redis has lost its data
--
-- All keys share the slot of KEYS[1]. Leases live until they are settled or reaped, the rest expires when idle.
-- Rules come as msgpack: {{id, limit high, limit low, bucket length, bucket offset, span, hard}...},
-- {{id, requests, tokens, concurrent}...}, where -1 is unbounded.

local IDLE_MS = 7 * 86400000
local TOUCH_S = 86400
local UNSURE = -2

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

-- A command of a connection that its worker has given up must not act any more.
local function outdated(generation)
  local newest = redis.call('HGET', KEYS[2], 'g')
  if newest == generation then return false end
  if newest and tonumber(newest) > tonumber(generation) then return true end
  redis.call('HSET', KEYS[2], 'g', generation)
  redis.call('PEXPIRE', KEYS[2], IDLE_MS)
  return false
end

local function same_epoch(epoch)
  return redis.call('GET', '{fp}:epoch') == epoch
end

-- Nano-dollars may exceed what a double holds exactly; in two parts all sums and differences that matter are exact.
local function parts(text)
  if #text <= 12 then return 0, tonumber(text) end
  local high, low = tonumber(string.sub(text, 1, -10)), tonumber(string.sub(text, -9))
  if string.sub(text, 1, 1) == '-' then low = -low end
  return high, low
end

-- The first second of the month, from the days since 1970 (proleptic Gregorian calendar, years from March on).
local function month_of(now)
  local days = math.floor(now / 86400)
  local shifted = days + 719468
  local in_era = shifted % 146097
  local year = math.floor(
    (in_era - math.floor(in_era / 1460) + math.floor(in_era / 36524) - math.floor(in_era / 146096)) / 365)
  local in_year = in_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * in_year + 2) / 153)
  local day = in_year - math.floor((153 * month + 2) / 5)
  return (days - day) * 86400
end

local function bucket_of(budget, now)
  local length, offset = budget[4], budget[5]
  if length == 0 then return 0 end
  if length < 0 then return month_of(now) end
  return math.floor((now - offset) / length) * length + offset
end

local function budget_key(budget) return '{fp}:budget:' .. budget[1] end
local function limit_key(limit) return '{fp}:limit:' .. limit[1] end
local function lease_key(id) return '{fp}:lease:' .. id end
local function field(bucket) return string.format('%d', bucket) end

local function touch(key, touched, now)
  if now - tonumber(touched or 0) > TOUCH_S then
    redis.call('HSET', key, 'x', math.floor(now))
    redis.call('PEXPIRE', key, IDLE_MS)
  end
end

local function forget_before(key, first)
  for _, name in ipairs(redis.call('HKEYS', key)) do
    local bucket = tonumber(name)
    if bucket and bucket < first then redis.call('HDEL', key, name) end
  end
end

-- What a budget still covers, nil where Redis does not know it.
local function free_of(budget, now)
  local key, bucket = budget_key(budget), bucket_of(budget, now)
  local high, low = budget[2], budget[3]
  local function less(text)
    local one, other = parts(text)
    high, low = high - one, low - other
  end
  if budget[6] == 0 then
    local known = redis.call('HMGET', key, 'r', field(bucket), 'x')
    if not known[1] then return nil end
    touch(key, known[3], now)
    less(known[1])
    if known[2] then less(known[2]) end
  else
    local known, reserved, touched = redis.call('HGETALL', key), nil, nil
    for place = 1, #known, 2 do
      local from = tonumber(known[place])
      if known[place] == 'r' then
        reserved = known[place + 1]
        less(reserved)
      elseif known[place] == 'x' then
        touched = known[place + 1]
      elseif from and from >= bucket - budget[6] then
        less(known[place + 1])
      end
    end
    if not reserved then return nil end
    touch(key, touched, now)
  end
  return high * 1e9 + low
end

local function is_known(budget) return redis.call('HEXISTS', budget_key(budget), 'r') == 1 end

-- Of a budget that Redis does not know the durable copy alone keeps count.
local function reserve(budget, cost)
  if cost ~= '0' then redis.call('HINCRBY', budget_key(budget), 'r', cost) end
end

local function book(budget, bucket, now, cost)
  local key, first = budget_key(budget), bucket_of(budget, now) - budget[6]
  if cost == '0' or bucket < first then return end
  if redis.call('HINCRBY', key, field(bucket), cost) == tonumber(cost) then forget_before(key, first) end
end

local function negative(cost)
  if string.sub(cost, 1, 1) == '-' then return string.sub(cost, 2) end
  return cost == '0' and cost or '-' .. cost
end

local function interval_of(per_minute) return 60 / math.max(1, per_minute) end
local function ceiling_of(per_minute) return math.max(60, per_minute * interval_of(per_minute)) end

-- A TAT that no call can have led to comes from a clock that was set back since: the allowance begins afresh, because
-- everybody would be locked out until the clock is there again.
local function ahead(tat, now, per_minute)
  local ceiling = ceiling_of(per_minute)
  if tat - now > ceiling + 1 then return 0 end
  return math.min(math.max(tat - now, 0), ceiling)
end

-- Seconds, -1 for never.
local function wait(tat, now, per_minute, amount)
  if amount > per_minute then return -1 end
  local over = ahead(tat, now, per_minute) + math.min(amount * interval_of(per_minute), 60) - 60
  return over > 1e-6 and amount > 0 and over or 0
end

local function moved(tat, now, per_minute, amount)
  local further = ahead(tat, now, per_minute) + amount * interval_of(per_minute)
  return now + math.min(math.max(further, 0), ceiling_of(per_minute))
end

-- What is left at once, and microseconds until all of it is back.
local function quota(tat, now, per_minute)
  local used = ahead(tat, now, per_minute)
  local left = math.floor((60 - used + 5e-7) / interval_of(per_minute))
  return math.min(math.max(left, 0), per_minute), math.floor(used * 1e6 + 0.5)
end

local function state_of(limit)
  local known = redis.call('HMGET', limit_key(limit), 'q', 'k', 'n', 'x')
  return tonumber(known[1] or 0), tonumber(known[2] or 0), tonumber(known[3] or 0), known[4]
end

local function keep(limit, now, requests_tat, tokens_tat, running, touched)
  local key = limit_key(limit)
  redis.call('HSET', key, 'q', requests_tat, 'k', tokens_tat, 'n', math.max(running, 0))
  touch(key, touched, now)
end

-- A call has left; of its tokens so many were not used.
local function leave(limit, now, unused)
  local requests_tat, tokens_tat, running, touched = state_of(limit)
  if limit[3] >= 0 and unused ~= 0 then tokens_tat = moved(tokens_tat, now, limit[3], -unused) end
  keep(limit, now, requests_tat, tokens_tat, running - 1, touched)
end

-- A call that runs but was lost.
local function enter(limit, now)
  local requests_tat, tokens_tat, running, touched = state_of(limit)
  keep(limit, now, requests_tat, tokens_tat, running + 1, touched)
end

local function expiry(now, lease_s) return math.floor((now + tonumber(lease_s)) * 1000) end

local function hold(id, cost, tokens, now, rules, lease_s)
  redis.call('HSET', lease_key(id), 'c', cost, 'k', tokens, 'at', math.floor(now), 'm', rules)
  redis.call('ZADD', KEYS[1], expiry(now, lease_s), id)
end

local function let_go(id)
  redis.call('DEL', lease_key(id))
  redis.call('ZREM', KEYS[1], id)
end
