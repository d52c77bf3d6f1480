-- ARGV: rules, generation, epoch, lease id, cost, tokens, lease id to be replaced or '', seconds that leases live.
-- {1, place of the limit with the fewest requests left or 0, left, reset us, the same of tokens, soft budgets exceeded...}
-- {0, kind, place of the rule, wait us or -1, what the budget still covers, requests left, reset us, tokens left, reset us, now}
if outdated(ARGV[2]) or not same_epoch(ARGV[3]) then return {UNSURE} end
local now = clock()
local budgets, limits = unpack(cmsgpack.unpack(ARGV[1]))
local cost, tokens = tonumber(ARGV[5]), tonumber(ARGV[6])
local old_cost, old_tokens, old_budgets, old_limits = '0', 0, {}, {}
local had_budget, had_limit = {}, {}
if ARGV[7] ~= '' then
  local old = redis.call('HMGET', lease_key(ARGV[7]), 'c', 'k', 'm')
  if old[1] then
    old_cost, old_tokens = old[1], tonumber(old[2])
    old_budgets, old_limits = unpack(cmsgpack.unpack(old[3]))
    for _, budget in ipairs(old_budgets) do had_budget[budget[1]] = true end
    for _, limit in ipairs(old_limits) do had_limit[limit[1]] = true end
  end
end

local function refuse(kind, place, wait_s, limit, requests_tat, tokens_tat)
  local left, reset, tokens_left, tokens_reset = -1, 0, -1, 0
  if limit[2] >= 0 then left, reset = quota(requests_tat, now, limit[2]) end
  if limit[3] >= 0 then tokens_left, tokens_reset = quota(tokens_tat, now, limit[3]) end
  local wait_us = wait_s < 0 and -1 or math.ceil(wait_s * 1e6)
  return {0, kind, place, wait_us, 0, left, reset, tokens_left, tokens_reset, math.floor(now)}
end

local states = {}
for place, limit in ipairs(limits) do
  local requests_tat, tokens_tat, running, touched = state_of(limit)
  local more = tokens
  if had_limit[limit[1]] then
    more = tokens - old_tokens
  else
    if limit[4] >= 0 and running >= limit[4] then return refuse(4, place, -1, limit, requests_tat, tokens_tat) end
    if limit[2] >= 0 then
      local wait_s = wait(requests_tat, now, limit[2], 1)
      if wait_s ~= 0 then return refuse(2, place, wait_s, limit, requests_tat, tokens_tat) end
      requests_tat = moved(requests_tat, now, limit[2], 1)
    end
    running = running + 1
  end
  if limit[3] >= 0 then
    local wait_s = wait(tokens_tat, now, limit[3], more)
    if wait_s ~= 0 then
      local seen = tonumber(redis.call('HGET', limit_key(limit), 'q') or 0)
      return refuse(3, place, wait_s, limit, seen, tokens_tat)
    end
    tokens_tat = moved(tokens_tat, now, limit[3], more)
  end
  states[place] = {requests_tat, tokens_tat, running, touched}
end

local reply = {1, 0, 0, 0, 0, 0, 0}
local short, least
for place, budget in ipairs(budgets) do
  local free = free_of(budget, now)
  if not free then return {UNSURE} end
  if had_budget[budget[1]] then free = free + tonumber(old_cost) end
  if cost > free and cost > 0 then
    if budget[7] == 0 then
      reply[#reply + 1] = place
    elseif not least or free < least then
      short, least = place, free
    end
  end
end
if short then
  return {0, 1, short, -1, math.max(least, 0), -1, 0, -1, 0, math.floor(now)}
end

for place, limit in ipairs(limits) do
  local requests_tat, tokens_tat, running, touched = unpack(states[place], 1, 4)
  keep(limit, now, requests_tat, tokens_tat, running, touched)
  if limit[2] >= 0 then
    local left, reset = quota(requests_tat, now, limit[2])
    if reply[2] == 0 or left < reply[3] then reply[2], reply[3], reply[4] = place, left, reset end
  end
  if limit[3] >= 0 then
    local left, reset = quota(tokens_tat, now, limit[3])
    if reply[5] == 0 or left < reply[6] then reply[5], reply[6], reply[7] = place, left, reset end
  end
end
local has_limit = {}
for _, limit in ipairs(limits) do has_limit[limit[1]] = true end
for _, limit in ipairs(old_limits) do
  if not has_limit[limit[1]] then leave(limit, now, old_tokens) end
end
for _, budget in ipairs(budgets) do reserve(budget, ARGV[5]) end
if old_cost ~= '0' then
  for _, budget in ipairs(old_budgets) do
    if is_known(budget) then reserve(budget, negative(old_cost)) end
  end
end
if ARGV[7] ~= '' then let_go(ARGV[7]) end
hold(ARGV[4], ARGV[5], ARGV[6], now, ARGV[1], ARGV[8])
return reply
