-- Sending jobs to their endpoints: whose turn it is, and what came of it.

-- operation: claim_submit allow-oom
-- Take the queued job whose turn it is at an endpoint, and write down the intent. `id` is the job whose message asks:
-- where nobody has been turned away before, it goes first among its user's. Without it, a line's own message asks.
-- Returns {word, ms, id, lease, now, record, input, ms until a wake message is due or -1}, or {word, ms, id, the same}.
local a = cjson.decode(ARGV[1])
local where = 'submit:' .. a.endpoint
local calls, ring = key('calls', a.target), key('ring', a.endpoint)

local function claimed(id, lease, lost, ms)
  local input = redis.call('GET', key('input', id)) or ''
  return {lost and 'lost' or 'claimed', 0, id, lease, int(NOW), record(id), input, ms}
end

-- Whoever lost the answer to his claim asks again with the same correlation id.
if a.again then
  for _, id in ipairs(redis.call('ZRANGE', calls, 0, -1)) do
    local f = redis.call('HMGET', key('job', id), 'correlation_id', 'state')
    local lease = tonumber(redis.call('ZSCORE', key('due', where), id) or '')
    if f[1] == a.correlation_id and f[2] == 'submitting' and lease and is_lease(lease) then
      return claimed(id, int(lease), false, -1)
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

local function take(id, state, ms)
  local job = key('job', id)
  local lease = lease_until(a.lease_ms, a.fence)
  redis.call('ZADD', key('due', where), lease, id)
  line_up_later(a.endpoint, id, lease)
  expect(where, id, a.lease_ms + 500)
  if state == 'queued' then
    redis.call('ZADD', calls, lease, id)
    move(id, 'queued', 'submitting')
    redis.call('HINCRBY', job, 'attempt', 1)
    redis.call('HSET', job, 'target', a.target, 'correlation_id', a.correlation_id)
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

local id, user, state = next_in_line()
if not id then return {why, why_ms} end
if state == 'queued' then
  -- An open breaker lets one job through when its pause is over, and then none for another pause.
  local breaker = key('breaker', a.target)
  local shut = redis.call('HMGET', breaker, 'until', 'pause_ms')
  local wait, word = math.ceil(((tonumber(shut[1] or '') or 0) - NOW) / 1000), 'trouble'
  if wait <= 0 then wait, word = may_submit(a.target, a.per_s, a.burst, a.at_once), 'wait' end
  if wait > 0 then
    count(word == 'wait' and 'submits_delayed' or 'submits_held')
    return {word, wait, a.id or id, wake(where, after_ms(math.max(wait, LINE_PAUSE_MS)))}
  end
  if shut[1] then
    redis.call('HSET', breaker, 'until', int(after_ms(tonumber(shut[2]))), 'probe', id)
    redis.call('HDEL', breaker, 'run', 'attempt')
    count('probes')
  end
end
local answer = take(id, state, -1)
if redis.call('EXISTS', key('line', a.endpoint, user)) == 1 then
  give_turn(a.endpoint, user)
else
  redis.call('ZREM', ring, user)
  if redis.call('ZCARD', ring) == 0 then redis.call('SREM', key('lines'), a.endpoint) end
end
-- Each of the others has its own message yet, but for those that were turned away: a line's own message sees to them.
if not a.id and redis.call('ZCARD', ring) > 0 then
  local each = 1000000 / a.per_s
  local more = a.spread and meter(a.target, 'run') + each <= NOW + a.burst * each
  answer[8] = wake(where, after_ms(more and 0 or LINE_PAUSE_MS))
end
return answer

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
local f = redis.call('HMGET', job, 'state', 'target', 'remote_id', 'endpoint')
local state, target, remote_id = f[1], f[2], f[3]
if not OPEN[state or ''] then return {'over', {}} end
if remote_id == a.remote_id then return {'same', {}} end
if remote_id and remote_id ~= '' then
  redis.call('ZADD', key('outbox'), after_ms(0), 'orphan|' .. target .. ' ' .. remote_id)
  count('orphans')
end
displace('submit:' .. f[4], a.id)
if target then redis.call('ZREM', key('due', 'poll:' .. target), a.id) end
unexpect('cancel', a.id)
redis.call('HSET', job, 'target', a.target, 'remote_id', a.remote_id, 'submitted', int(NOW))
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
