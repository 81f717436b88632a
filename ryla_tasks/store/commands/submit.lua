-- Sending jobs to their endpoints: whose turn it is, and what came of it.

-- operation: claim_submit allow-oom
-- Take the queued job whose turn it is at an endpoint, and write down the intent. `id` is the job whose message asks:
-- where nobody has been turned away before, it goes first among its user's. Without it, a line's own message asks.
--   a = {endpoint, targets = [{id, per_s, burst, at_once, terms?}...], lease_ms, fence, correlation_id, id?, spread?,
--     again?, health_ms, checked?, money?}
-- `targets` are those of the endpoint in order of preference; `terms` are what jobs cost there, and with any of them
-- `money` are the budgets (see money.lua). A retry wants an answer of its target's /health that is no older than
-- `health_ms`, unless that was `checked`.
-- Returns {word, ms, id, lease, now, record, input, ms until a wake message is due or -1, 1 where others are in line}, or
-- {word, ms, id, the same ms, target} where a job in line cannot go now. Where budgets ended jobs, or the endpoint's is to be watched, that comes in
-- {'money', deliveries, {id, ceiling...}, day, spent by the endpoint, answer}.
local a = cjson.decode(ARGV[1])
local where, ring = 'submit:' .. a.endpoint, key('ring', a.endpoint)

local function claimed(id, lease, lost, ms)
  local input = redis.call('GET', key('input', id)) or ''
  return {lost and 'lost' or 'claimed', 0, id, lease, int(NOW), record(id), input, ms, 0}
end

-- Whoever lost the answer to his claim asks again with the same correlation id.
if a.again then
  for _, target in ipairs(a.targets) do
    for _, id in ipairs(redis.call('ZRANGE', key('calls', target.id), 0, -1)) do
      local f = redis.call('HMGET', key('job', id), 'correlation_id', 'state')
      local lease = tonumber(redis.call('ZSCORE', key('due', where), id) or '')
      if f[1] == a.correlation_id and f[2] == 'submitting' and lease and is_lease(lease) then
        return claimed(id, int(lease), false, -1)
      end
    end
  end
end

-- Why a job cannot be taken, and the ms until it can; nothing where it can, and then its state.
local function refusal(id)
  local state = redis.call('HGET', key('job', id), 'state')
  if not state then return 'gone', 0 end
  if state ~= 'queued' and state ~= 'submitting' and state ~= 'unknown' then return 'moved', 0 end
  local score = tonumber(redis.call('ZSCORE', key('due', where), id) or '')
  if not score then return 'moved', 0 end
  if score > NOW + DUE_SLACK_US then
    if is_lease(score) then return 'held', 0 end
    return 'early', math.ceil((score - NOW) / 1000)
  end
  local start_by = tonumber(redis.call('ZSCORE', key('deadlines'), 'start|' .. id) or '')
  if start_by and start_by <= NOW then return 'expired', 0 end
  return nil, 0, state
end

local function is_fit(target)
  local shut = tonumber(redis.call('HGET', key('breaker', target), 'until') or '')
  return not (shut and shut > NOW) and not is_down(watch_of(target))
end

-- Where a job goes: to the first target that it has not left, that has what it needs, and that is fit; else to the first
-- of them, to wait there; where it has left them all, to the first that has what it needs. What is known of health is not asked for anew: a first submit does not wait for that.
local function target_of(id)
  if #a.targets == 1 then return a.targets[1] end
  local f, left, only, first, able = redis.call('HMGET', key('job', id), 'fallbacks', 'only'), {}, nil, nil, nil
  for _, one in ipairs(f[1] and cjson.decode(f[1]) or {}) do
    if one.kind == 'endpoint' then left[one.from] = true end
  end
  if f[2] and f[2] ~= '' then
    only = {}
    for _, one in ipairs(cjson.decode(f[2])) do only[one] = true end
  end
  for _, target in ipairs(a.targets) do
    if not only or only[target.id] then
      able = able or target
      if not left[target.id] then
        if is_fit(target.id) then return target end
        first = first or target
      end
    end
  end
  return first or able or a.targets[1]
end

-- Whether a retry has to wait: `check`, until its target's health has been asked, or `down`.
local function retry_waits(id, target)
  if (tonumber(redis.call('HGET', key('job', id), 'retries') or '') or 0) == 0 then return end
  local watch = watch_of(target)
  if not watch or NOW / 1000 - watch.at * 1000 > a.health_ms then return not a.checked and 'check' or nil end
  return is_down(watch) and 'down' or nil
end

local ended, refused, day, spent = {}, {}, '', -1

local function told(answer)
  if #refused == 0 and spent < 0 then return answer end
  return {'money', ended, refused, day, spent, answer}
end

local function take(id, state, ms, target, cost)
  local job = key('job', id)
  local lease = lease_until(a.lease_ms, a.fence)
  if state == 'queued' then
    measure('line_wait', a.endpoint, (NOW - tonumber(redis.call('ZSCORE', key('due', where), id))) / MICRO)
  end
  redis.call('ZADD', key('due', where), lease, id)
  line_up_later(a.endpoint, id, lease)
  expect(where, id, a.lease_ms + 500)
  if state == 'queued' then
    redis.call('ZADD', key('calls', target.id), lease, id)
    move(id, 'queued', 'submitting')
    redis.call('HINCRBY', job, 'attempt', 1)
    redis.call('HSET', job, 'target', target.id, 'correlation_id', a.correlation_id)
    if cost then
      local on, by_endpoint = reserve(id, target.terms, a.money, cost)
      if a.money.endpoint then day, spent = on, by_endpoint end
    else
      redis.call('HDEL', job, 'price', 'cold_ms')
    end
    redis.call('ZREM', key('deadlines'), 'start|' .. id)
    count('attempts')
  end
  return claimed(id, int(lease), state ~= 'queued', ms)
end

-- The message that a line waits for is spent when its time has come, whoever comes.
local woken = tonumber(redis.call('HGET', key('wake'), where) or '')
if woken and woken <= NOW + DUE_SLACK_US then
  redis.call('HDEL', key('wake'), where)
  woken = nil
end

local why, why_ms, own = 'none', 0, nil
if a.id then
  local state
  why, why_ms, state = refusal(a.id)
  -- What died on its way needs no call, and so no turn.
  if state and state ~= 'queued' then return take(a.id, state, -1) end
  if state then
    line_up(a.endpoint, a.id)
    own = not woken and a.id
  end
end
for _, id in ipairs(redis.call('ZRANGE', key('later', a.endpoint), '-inf', int(NOW), 'BYSCORE', 'LIMIT', 0, 100)) do
  line_up(a.endpoint, id)
end

-- Whose turn it is, and which of that user's jobs. What cannot be taken is out of line; its message or a sweep sees to it.
local function next_in_line()
  for _ = 1, 200 do
    local user = redis.call('ZRANGE', ring, 0, 0)[1]
    if not user then return nil end
    local line = key('line', a.endpoint, user)
    local id = own and redis.call('ZSCORE', line, own) and own or redis.call('ZRANGE', line, 0, 0)[1]
    if not id then
      redis.call('ZREM', ring, user)
    else
      local bad, _, state = refusal(id)
      if not bad then return id, user, state end
      redis.call('ZREM', line, id)
    end
  end
end

-- A user's turn is over.
local function pass_turn(user)
  if redis.call('EXISTS', key('line', a.endpoint, user)) == 1 then
    give_turn(a.endpoint, user)
  else
    redis.call('ZREM', ring, user)
    if redis.call('ZCARD', ring) == 0 then redis.call('SREM', key('lines'), a.endpoint) end
  end
end

local id, user, state = next_in_line()
local target, cost
-- Jobs that a budget forbids to submit end here, and the next one's turn has come.
while state == 'queued' do
  target = target_of(id)
  if not target.terms then break end
  local code, most, before, wanted
  cost, code, most, before, wanted = afford(id, target.terms, a.money)
  if cost then break end
  turn_down(id, a.money, code, most, before, wanted, ended)
  refused[#refused + 1] = id
  refused[#refused + 1] = code
  if code == 'budget_endpoint' then day, spent = day_of(a.money.offset_s), before end
  pass_turn(user)
  if #refused >= 2 * MOST_REFUSED then return told({'wait', 1, a.id or id, wake(where, NOW), target.id}) end
  id, user, state = next_in_line()
end
if not id then return told({why or 'moved', why_ms}) end
if state == 'queued' then
  local waits = retry_waits(id, target.id)
  if waits == 'check' then return told({waits, 0, id, -1, target.id}) end
  if waits == 'down' then
    local at = after_ms(RETRY_HELD_MS)
    redis.call('ZADD', key('due', where), at, id)
    line_up_later(a.endpoint, id, at)
    expect(where, id, RETRY_HELD_MS)
    count('retries_held')
    return told({waits, RETRY_HELD_MS, id, wake(where, after_ms(LINE_PAUSE_MS)), target.id})
  end
  -- An open breaker lets one job through when its pause is over, and then none for another pause.
  local breaker = key('breaker', target.id)
  local shut = redis.call('HMGET', breaker, 'until', 'pause_ms')
  local wait, word = math.ceil(((tonumber(shut[1] or '') or 0) - NOW) / 1000), 'trouble'
  if wait <= 0 then wait, word = may_submit(target.id, target.per_s, target.burst, target.at_once), 'wait' end
  if wait > 0 then
    count(word == 'wait' and 'submits_delayed' or 'submits_held')
    if word == 'wait' then measure_limit(target.id, 'run', wait) end
    return told({word, wait, a.id or id, wake(where, after_ms(math.max(wait, LINE_PAUSE_MS))), target.id})
  end
  if shut[1] then
    redis.call('HSET', breaker, 'until', int(after_ms(tonumber(shut[2]))), 'probe', id)
    redis.call('HDEL', breaker, unpack(CALLS))
    count('probes')
  end
end
local answer = take(id, state, -1, target, cost)
pass_turn(user)
-- Each of the others has its own message yet, but for those that were turned away: a line's own message sees to them.
answer[9] = redis.call('EXISTS', ring)
if not a.id and answer[9] == 1 then
  target = target or a.targets[1]
  local each = 1000000 / target.per_s
  local more = a.spread and meter(target.id, 'run') + each <= NOW + target.burst * each
  answer[8] = wake(where, after_ms(more and 0 or LINE_PAUSE_MS))
end
return told(answer)

-- operation: accept allow-oom
-- Record that the cloud took an attempt. Fenced by the attempt alone: the answer counts however late it comes.
local a = cjson.decode(ARGV[1])
local job = key('job', a.id)
local f = redis.call('HMGET', job, 'state', 'attempt', 'remote_id', 'endpoint', 'cancel')
if f[3] == a.remote_id and tonumber(f[2] or '') == a.attempt then return {'accepted', -1, 0} end
if (f[1] ~= 'submitting' and f[1] ~= 'unknown') or tonumber(f[2]) ~= a.attempt then
  -- The job has moved on without this remote job: it is an orphan, and the sweeper has it cancelled.
  redis.call('ZADD', key('outbox'), after_ms(0), 'orphan|' .. a.target .. ' ' .. a.remote_id)
  count('orphans')
  return {'orphan', -1, 0}
end
displace('submit:' .. f[4], a.id)
redis.call('HSET', job, 'remote_id', a.remote_id, 'submitted', int(NOW))
move(a.id, f[1], 'waiting')
place('poll:' .. a.target, a.id, a.gap_ms)
tell(a.id, a.event)
show(a.meta)
count('submits')
local open = note_outcome(a.target, 'run', 0, a.id)
if f[5] then
  expect('cancel', a.id, 0)
  return {'cancelling', wake(a.target, after_ms(a.gap_ms)), open}
end
return {'accepted', wake(a.target, after_ms(a.gap_ms)), open}

-- operation: adopt_twin allow-oom
-- An earlier attempt, whose answer was lost and which was made again, turns out to have completed: it is kept, and
-- its sibling is an orphan. Returns {word, deliveries}.
local a = cjson.decode(ARGV[1])
local job = key('job', a.id)
local f = redis.call('HMGET', job, 'state', 'target', 'remote_id', 'endpoint', 'fallbacks')
local state, target, remote_id = f[1], f[2], f[3]
if not OPEN[state or ''] then return {'over', {}} end
if #cjson.decode(f[5] or '[]') ~= a.fallbacks then return {'over', {}} end
if remote_id == a.remote_id then return {'same', {}} end
if remote_id and remote_id ~= '' then
  redis.call('ZADD', key('outbox'), after_ms(0), 'orphan|' .. target .. ' ' .. remote_id)
  count('orphans')
end
displace('submit:' .. f[4], a.id)
if target then redis.call('ZREM', key('due', 'poll:' .. target), a.id) end
unexpect('cancel', a.id)
redis.call('HSET', job, 'target', a.target, 'remote_id', a.remote_id, 'submitted', int(NOW))
if state == 'queued' then reopen(a.id) end
if redis.call('HEXISTS', job, 'reserved') == 1 then redis.call('HSET', job, 'price', a.price) end
move(a.id, state, 'collecting')
place('deliver', a.id, 0)
tell(a.id, a.event)
show(a.meta)
count('twins_kept')
return {'kept', {a.id, envelope(a.id)}}

-- operation: remark allow-oom
-- Tell something about a job that still waits to be submitted.
local a = cjson.decode(ARGV[1])
local f = redis.call('HMGET', key('job', a.id), 'state', 'attempt')
if f[1] ~= 'queued' or (tonumber(f[2] or '') or 0) ~= a.attempt then return 0 end
redis.call('HSET', key('job', a.id), 'observed', a.observed)
tell(a.id, a.event)
show(a.meta)
return 1
