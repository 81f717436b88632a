-- What jobs cost, put after common.lua. Amounts are whole micro-dollars.
--
-- An attempt reserves what it is expected to cost when it is claimed, on the day of its claim (`day` of its job). While
-- it runs the reservation (`reserved`) grows with it, and when it is over it becomes what the attempt has cost, part of
-- the job's `paid`. So on each day what is spent by an endpoint or a user is the sum of what their attempts of that day
-- have cost, and of what those in flight have reserved. Jobs at targets without a price have none of these fields.

local SPEND_KEPT_S = 3456000
local STARTS_KEPT, STARTS_KEPT_S = 20, 86400

-- The number of the day that it is in a place `offset_s` seconds east of Greenwich.
local function day_of(offset_s) return int(math.floor((NOW / 1000000 + offset_s) / 86400)) end

-- Add to what was spent on a day. Returns the day, and what the endpoint and the user have spent on it by now.
local function spend(day, endpoint, user, amount)
  local spent = key('spend', day)
  local by_endpoint = redis.call('HINCRBY', spent, 'endpoint:' .. endpoint, int(amount))
  local by_user = user ~= '' and redis.call('HINCRBY', spent, 'user:' .. user, int(amount)) or 0
  redis.call('EXPIRE', spent, SPEND_KEPT_S)
  return day, by_endpoint, by_user
end

-- An attempt is over, or was never sent: what it has reserved becomes what it has `cost`. Where that is not known it is
-- taken to have cost all of it, as it is where that is only `assumed` here.
pay = function(id, cost, assumed)
  local job = key('job', id)
  local f = redis.call('HMGET', job, 'reserved', 'day', 'endpoint', 'user', 'kind', 'target', 'cold_ms', 'price')
  if not f[1] then return end
  assumed = assumed or not cost
  cost = cost or tonumber(f[1])
  local owner = {f[5], f[3], f[6], f[4]}
  use_money(owner, cost, assumed)
  if not assumed then use_start(owner, tonumber(f[7] or '') or 0, f[8], cost) end
  redis.call('HDEL', job, 'reserved')
  redis.call('HINCRBY', job, 'paid', int(cost))
  return spend(f[2], f[3], f[4] or '', cost - f[1])
end

-- An attempt costs more than it has reserved.
local function grow(id, to)
  local f = redis.call('HMGET', key('job', id), 'reserved', 'day', 'endpoint', 'user')
  if not f[1] or tonumber(f[1]) >= to then return end
  redis.call('HSET', key('job', id), 'reserved', int(to))
  return spend(f[2], f[3], f[4] or '', to - f[1])
end

-- An attempt whose outcome was not known was taken to have cost all that it had reserved. It goes on after all.
local function reopen(id)
  local job = key('job', id)
  local assumed = redis.call('HGET', job, 'assumed')
  if not assumed then return end
  redis.call('HINCRBY', job, 'paid', int(0 - assumed))
  redis.call('HSET', job, 'reserved', assumed)
  redis.call('HDEL', job, 'assumed')
  use_money(whose(id), 0 - assumed, true)
end

-- What a queued job is expected to cost; or nil, the ceiling that this would break, where that is, what was spent
-- under it before, and the cost.
--   terms = {price, per_s, run_s?}: what jobs cost at the target
--   m = {else_run_s, offset_s, endpoint?, user?, endings, event}: the daily budgets, and how jobs end that they forbid
local function afford(id, terms, m)
  local f = redis.call('HMGET', key('job', id), 'spec', 'paid', 'endpoint', 'user')
  local spec, user, paid = cjson.decode(f[1]), f[4] or '', tonumber(f[2] or '') or 0
  -- A millionth of a dollar begun counts whole; a thousandth of that is the error of a float.
  local cost = math.max(0, math.ceil(terms.per_s * (terms.run_s or spec.expected_run_s or m.else_run_s) - 0.001))
  local most = spec.max_cost_usd and math.floor(spec.max_cost_usd * 1000000 + 0.5)
  if most and paid + cost > most then return nil, 'budget_job', most, paid, cost end
  if m.endpoint or m.user then
    local spent = redis.call('HMGET', key('spend', day_of(m.offset_s)), 'endpoint:' .. f[3], 'user:' .. user)
    local by_endpoint, by_user = tonumber(spent[1] or '') or 0, tonumber(spent[2] or '') or 0
    if m.user and user ~= '' and by_user + cost > m.user then return nil, 'budget_user', m.user, by_user, cost end
    if m.endpoint and by_endpoint + cost > m.endpoint then
      return nil, 'budget_endpoint', m.endpoint, by_endpoint, cost
    end
  end
  return cost
end

-- Reserve what a job is expected to cost, for an attempt that begins. Returns what `spend` does.
local function reserve(id, terms, m, cost)
  local job, day = key('job', id), day_of(m.offset_s)
  redis.call('HSET', job, 'price', terms.price, 'reserved', int(cost), 'day', day, 'cold_ms', 0)
  redis.call('HDEL', job, 'assumed')
  local f = redis.call('HMGET', job, 'endpoint', 'user')
  return spend(day, f[1], f[2] or '', cost)
end

-- End a queued job that a ceiling forbids to submit. Adds its deliveries to `out`.
local function turn_down(id, m, code, most, spent, cost, out)
  local ending = cjson.decode(m.endings[code])
  ending.error.info.details = {ceiling_usd = most / 1e6, spent_usd = spent / 1e6, expected_usd = cost / 1e6}
  count('budget_refused')
  displace('submit:' .. redis.call('HGET', key('job', id), 'endpoint'), id)
  finish(id, 'queued', 'failed', cjson.encode(ending), nil, m.event, out)
end

-- Whether a worker's start is to count for a job that was sent and then taken by a worker at these times. Jobs that
-- waited at the same moment waited for the same start: it counts for the first of them that is seen.
local function counts_start(start)
  local starts = key('starts', start.target)
  local known = redis.call('ZRANGE', starts, 0, -1, 'WITHSCORES')
  for i = 1, #known, 2 do
    if start.sent <= tonumber(known[i + 1]) and tonumber(known[i]) <= start.began then return false end
  end
  redis.call('ZADD', starts, int(start.began), int(start.sent))
  redis.call('ZREMRANGEBYRANK', starts, 0, -1 - STARTS_KEPT)
  redis.call('EXPIRE', starts, STARTS_KEPT_S)
  return true
end

-- Carry out what a settle says of a job's money. m = {start?, spent?, assumed?, reserve?, endpoint?, user?}: a worker's start
-- that it waited for, what its attempt has cost (`assumed`: nobody knows), or what it reserves from now on; and the daily budgets over it, in whose
-- presence `told` gets {id, ceiling broken by the growth or '', endpoint, day, spent by the endpoint, by the user}.
local function reckon(id, m, told)
  local more, day, by_endpoint, by_user = 0, nil, nil, nil
  if m.start and counts_start(m.start) then
    redis.call('HINCRBY', key('job', id), 'cold_ms', m.start.ms)
    more = m.start.cost
  end
  if m.spent then
    day, by_endpoint, by_user = pay(id, m.spent + more, m.assumed)
  elseif m.reserve then
    day, by_endpoint, by_user = grow(id, m.reserve)
  end
  if not day or not (m.endpoint or m.user) then return end
  local code = ''
  if m.reserve and m.user and by_user > m.user then
    code = 'budget_user'
  elseif m.reserve and m.endpoint and by_endpoint > m.endpoint then
    code = 'budget_endpoint'
  end
  local endpoint = redis.call('HGET', key('job', id), 'endpoint')
  for _, part in ipairs({id, code, endpoint, day, int(by_endpoint), int(by_user)}) do told[#told + 1] = part end
end
