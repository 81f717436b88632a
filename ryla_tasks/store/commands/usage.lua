-- What the fleet has used, for `ryla costs`, put after common.lua: a ledger that outlives the records.
--
-- Both hashes are of a day (its number in UTC) and hold whole numbers, by the hour in which something ended:
--     usage:DAY        "HOUR MEASURE KIND ENDPOINT TARGET"; the target is empty for a job that was never sent
--     usage_users:DAY  "HOUR MEASURE =USER", and "HOUR MEASURE *" for the users beyond the most that are kept apart
-- Measures: of jobs `completed`, `failed`, `cancelled`, `timed_out`, `expired`; of attempts at the cloud `attempts`,
-- `run_ms`, `waited_ms`, `cold` and `cold_ms` (those that waited for a worker's start, and for how long), `images`,
-- and `unpriced` and `unpriced_ms` (those at a target without a price); in micro-dollars `cost`, and as parts of it
-- `start_cost` (with `starts` and `start_ms`: each start that somebody waited for, once), `lora_cost` (trainings)
-- and `assumed` (what nobody knows).
--
-- It is written in the very script that ends an attempt or a job, behind its fence, so that what comes twice counts
-- once. `cost` is written where the account of a job is, and is always the sum of what all jobs have `paid`.

local USAGE_KEPT_S = 34560000
-- So many fields of users are kept for a day: some ten thousand users.
local MOST_USER_FIELDS = 100000
local OF_USERS = {completed = true, failed = true, cancelled = true, timed_out = true, expired = true, attempts = true,
  run_ms = true, images = true, unpriced = true, cost = true, lora_cost = true, assumed = true}

-- Add to a field. The first of each renews how long the day is kept: true where it was that.
local function book(hash, field, n)
  if redis.call('HINCRBY', hash, field, int(n)) ~= n then return false end
  redis.call('EXPIRE', hash, USAGE_KEPT_S)
  return true
end

-- One thing more of a measure. `whose` are the fields kind, endpoint, target and user of its job.
local function use(whose, measure, n)
  if not n or n == 0 then return end
  local seconds = math.floor(NOW / 1000000)
  local day, hour = int(math.floor(seconds / 86400)), int(math.floor(seconds % 86400 / 3600))
  local of = hour .. ' ' .. measure .. ' '
  book(key('usage', day), of .. whose[1] .. ' ' .. whose[2] .. ' ' .. (whose[3] or ''), n)
  if not OF_USERS[measure] then return end
  local users = key('usage_users', day)
  local field = of .. '=' .. (whose[4] or '')
  if book(users, field, n) and redis.call('HLEN', users) > MOST_USER_FIELDS then
    redis.call('HDEL', users, field)
    book(users, of .. '*', n)
  end
end

local function whose(id)
  return redis.call('HMGET', key('job', id), 'kind', 'endpoint', 'target', 'user', 'reserved')
end

-- A job is over. Aliases end with another job, and what sheets use is that of their cells.
use_end = function(id, to)
  local f = redis.call('HMGET', key('job', id), 'kind', 'endpoint', 'target', 'user', 'alias_of', 'sheet_of')
  if not f[5] and not f[6] then use(f, to, 1) end
end

-- An attempt at the cloud is over, before its account is closed. `sample` is a `Sample` as JSON, `used` has the
-- run_ms of all its runs, where that is known, and its images.
local function use_attempt(id, sample, used)
  local f, s = whose(id), cjson.decode(sample)
  local cold, waited_ms = s[3] == 1, s[4] ~= cjson.null and math.floor(s[4] * 1000 + 0.5) or nil
  use(f, 'attempts', 1)
  use(f, 'run_ms', used.run_ms)
  use(f, 'images', used.images)
  use(f, 'waited_ms', waited_ms)
  if cold then
    use(f, 'cold', 1)
    use(f, 'cold_ms', waited_ms)
  end
  if f[5] then return end
  use(f, 'unpriced', 1)
  use(f, 'unpriced_ms', used.run_ms)
end

-- A job has paid so much more, or (less than nothing) not after all.
local function use_money(f, cost, assumed)
  use(f, 'cost', cost)
  if f[1] == 'lora' then use(f, 'lora_cost', cost) end
  if assumed then use(f, 'assumed', cost) end
end

-- Part of that was a worker's start, of so many ms at the second price in `price`.
local function use_start(f, ms, price, cost)
  local per_s = tonumber(string.match(price or '', '^%S+ (%S+)$') or '') or 0
  if ms == 0 or per_s == 0 then return end
  use(f, 'starts', 1)
  use(f, 'start_ms', ms)
  use(f, 'start_cost', math.min(cost, math.ceil(math.ceil(ms / 1000) * per_s * 1000000 - 0.001)))
end
