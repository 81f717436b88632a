-- Every change that the job store makes in Redis, one named operation each.
--
-- The text before the first operation is put before each of them. An operation starts with a line
--     -- operation: NAME [flags]
-- and is run by EVALSHA with KEYS[1] = the prefix of all keys. All but `create` run even when Redis has no memory
-- left (`allow-oom`, `no-writes`): what was accepted must be able to end, and only ends give memory back.
--
-- Keys under the prefix:
--     job:ID            hash    the record
--     input:ID          string  the job's input, compressed; gone once the job has ended
--     envelope:ID       string  the whole Celery message, to send it again; gone once delivered
--     output:ID         string  a small remote output, kept until it is collected
--     events:ID         stream  what happened, capped
--     due:WHERE         zset    the jobs that wait at WHERE = submit:ENDPOINT | poll:TARGET | deliver
--     later:ENDPOINT    zset    those of submit:ENDPOINT that are not in line there: when to look at them
--     line:ENDPOINT:U   zset    jobs of user U in line at the endpoint, by priority, then due time
--     ring:ENDPOINT     zset    users with a line there, by the turn at which they are served next; `lines` is the set
--                               of endpoints with a ring, `turns` a hash of how many turns were given at each
--     calls:TARGET      zset    jobs whose submit is under way at a target, by the end of its lease
--     breaker:TARGET    hash    there while the target's breaker is open: since when, until when nothing is submitted,
--                               and which job is the probe
--     outcomes:TARGET:CALL list how the latest calls (run | attempt) went there, the newest first: "1 TIME" is bad
--     nudged:TARGET     set     jobs to poll at once although somebody holds them
--     outbox            zset    messages that must exist: "submit:ENDPOINT|ID", "deliver|ID", "cancel|ID",
--                               "orphan|TARGET REMOTE_ID"; the score is when to send (again)
--     deadlines         zset    job -> when it must be done; "start|ID" -> when it must have started
--     expiry            zset    job -> when its record goes
--     targets           set     targets with jobs in flight
--     wake              hash    target, or submit:ENDPOINT with a line -> when its earliest outstanding poll message,
--                               or wake message for submits, comes
--     wake_pushed       hash    the same -> no sweep sends it another message before this
--     not_before        hash    target OP -> no call before this (429)
--     rate:TARGET:OP    string  when the calls granted so far will have been spent (GCRA)
--     rides:TARGET      zset    rides under way, by the end of their lease
--     idem:N:USER:KEY   string  "DIGEST ID" of the job made under an idempotency key
--     tomb:ID           string  a job that came without a record of its own is over; kept 30 days
--     aliases:ID        set     jobs that end as this one does
--     health:TARGET     string  what is known of a target since somebody last waited there (JSON of a `Watch`)
--     asked:TARGET      string  nobody asks /health before this expires; its value is the right to record the answer
--     stats:TARGET      list    a sample of each attempt that ended, the newest first, capped
--     alerts            stream  what an operator should know, capped
--     alerted:WHAT      string  the same is not told again before this expires
--     idx:all | idx:user:U | idx:kind:K | idx:endpoint:E | idx:state:S   zsets of job ids by creation
--     counters          hash    what happened how often
--     recovery          hash    the burst of recovery that goes on: when it began and was last needed, and the
--                               counters at its beginning
--
-- Times are microseconds by the clock of Redis; what comes in and goes out are delays. In a due set the score says
-- which it is: a due time is a whole millisecond, a lease never is, and its last three digits are the random part
-- that makes it a fence. Whoever settles must name the very score that the claim gave out.

local P = KEYS[1]

local function key(...) return P .. ':' .. table.concat({...}, ':') end

local function int(n) return string.format('%.0f', n) end

local function time()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local NOW = time()

-- A due time: whole milliseconds.
local function after_ms(ms) return math.floor(NOW / 1000 + ms) * 1000 end

-- A lease: `ms` from now, with a fence of 1..999 in the last three digits.
local function lease_until(ms, fence) return after_ms(ms) + fence end

local function is_lease(score) return score % 1000 ~= 0 end

local RESEND_FIRST_MS, RESEND_MOST_MS = 5000, 300000
local ORPHAN_RESEND_MS = 30000
local DUE_SLACK_US = 100000
-- A poll this much overdue was not merely behind: its message was lost, or its worker. And what counts as late.
local OVERDUE_US, LATE_US = 1000000, 15000000
local FAR_MS = 30000
-- A line's wake messages are this far apart at least, so that what a limit lets through meanwhile goes by one of them.
local LINE_PAUSE_MS = 200
-- How soon to look again where as many submits are under way as may be.
local CALLS_FULL_MS = 250
local LINED_UP_MS = 60000
-- At a target with more jobs than this in flight some are due at any moment: rides leave time for them to gather.
local MANY_IN_FLIGHT, RIDE_PAUSE_MS = 128, 100
local EVENTS_KEPT = 500
local SAMPLES_KEPT = 500
local OUTCOMES_KEPT, OUTCOMES_KEPT_S = 50, 3600
local ALERTS_KEPT = 1000
local HEALTH_KEPT_S = 604800

local function count(name, n) redis.call('HINCRBY', key('counters'), name, n or 1) end

-- An event is told by appending it to the job's stream; watchers read it from there.
local function tell(id, event)
  if event then redis.call('XADD', key('events', id), 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', event) end
end

-- The Celery result of a job under way. Only another PROGRESS (or nothing) is written over: never an end.
local function show(meta)
  if not meta or meta == cjson.null then return end
  local head = redis.call('GETRANGE', meta.key, 0, 24)
  if head ~= '' and not string.find(head, '"PROGRESS"', 1, true) then return end
  redis.call('SET', meta.key, meta.value, 'EX', meta.ttl)
  redis.call('PUBLISH', meta.key, meta.value)
end

local function move(id, from, to)
  if from == to then return end
  local created = redis.call('HGET', key('job', id), 'created')
  redis.call('ZREM', key('idx', 'state', from), id)
  redis.call('ZADD', key('idx', 'state', to), created, id)
  redis.call('HSET', key('job', id), 'state', to)
end

-- A message that must exist: the outbox sends it (again) unless the job has moved on by then.
local function expect(where, id, ms) redis.call('ZADD', key('outbox'), after_ms(ms), where .. '|' .. id) end

local function unexpect(where, id) redis.call('ZREM', key('outbox'), where .. '|' .. id) end

local function endpoint_of(where) return string.match(where, '^submit:(.*)$') end

local function line_of(endpoint, id) return key('line', endpoint, redis.call('HGET', key('job', id), 'user') or '') end

-- Give a user the next free turn at an endpoint: behind everybody who has one.
local function give_turn(endpoint, user)
  redis.call('ZADD', key('ring', endpoint), redis.call('HINCRBY', key('turns'), endpoint, 1), user)
  redis.call('SADD', key('lines'), endpoint)
end

-- A job may be submitted now: it goes into its user's line, and a user without a line into the ring.
local function line_up(endpoint, id)
  redis.call('ZREM', key('later', endpoint), id)
  local f = redis.call('HMGET', key('job', id), 'user', 'rank')
  if not f[1] then return end
  local line = key('line', endpoint, f[1])
  if redis.call('ZADD', line, 'NX', (tonumber(f[2] or '') or 3) * 1e15 + NOW, id) == 0 then return end
  if not redis.call('ZSCORE', key('ring', endpoint), f[1]) then give_turn(endpoint, f[1]) end
end

-- Nobody submits the job before `at`.
local function line_up_later(endpoint, id, at)
  redis.call('ZREM', line_of(endpoint, id), id)
  redis.call('ZADD', key('later', endpoint), at, id)
end

-- Put a job where it is due next. Poll messages belong to targets (see wake), all others to jobs (see outbox).
local function place(where, id, ms)
  redis.call('ZADD', key('due', where), after_ms(ms), id)
  redis.call('HDEL', key('job', id), 'resends')
  if string.sub(where, 1, 5) == 'poll:' then
    redis.call('SADD', key('targets'), string.sub(where, 6))
  else
    local endpoint = endpoint_of(where)
    if endpoint and ms <= 0 then line_up(endpoint, id) end
    if endpoint and ms > 0 then line_up_later(endpoint, id, after_ms(ms)) end
    -- Whoever places a job sends its message, but for a distant time the outbox alone keeps it.
    expect(where, id, ms > FAR_MS and ms or ms + RESEND_FIRST_MS)
  end
end

local function displace(where, id)
  redis.call('ZREM', key('due', where), id)
  if string.sub(where, 1, 5) ~= 'poll:' then unexpect(where, id) end
  local endpoint = endpoint_of(where)
  if endpoint then
    redis.call('ZREM', key('later', endpoint), id)
    redis.call('ZREM', line_of(endpoint, id), id)
    redis.call('ZREM', key('calls', redis.call('HGET', key('job', id), 'target') or ''), id)
  end
end

-- Whether a message for `at` has to be sent to a target (poll) or for an endpoint's line (submit): the delay in ms, or
-- -1 where an earlier one is outstanding.
local function wake(target, at)
  if at > NOW + 30000000 then at = after_ms(30000) end
  local held = tonumber(redis.call('HGET', key('wake'), target) or '')
  if held and held <= at + DUE_SLACK_US then return -1 end
  redis.call('HSET', key('wake'), target, int(at))
  return math.max(0, math.ceil((at - NOW) / 1000))
end

local function nudge(id, target)
  local due = key('due', 'poll:' .. target)
  local score = tonumber(redis.call('ZSCORE', due, id) or '')
  if not score then return -1 end
  if is_lease(score) and score > NOW then
    redis.call('SADD', key('nudged', target), id)
    return -1
  end
  redis.call('ZADD', due, after_ms(0), id)
  return wake(target, NOW)
end

-- A job's message to send again; a job that has been tried again has the number of its retries before it ("2 {...").
local function envelope(id)
  local message = redis.call('GET', key('envelope', id)) or ''
  local retries = tonumber(redis.call('HGET', key('job', id), 'retries') or '') or 0
  return (message == '' or retries == 0) and message or int(retries) .. ' ' .. message
end

-- End a job, and with it its aliases. Returns the deliveries to send: {id, envelope, ...}.
local function finish(id, from, to, ending, observed, event, out)
  local job = key('job', id)
  move(id, from, to)
  redis.call('HSET', job, 'ending', ending, 'ended', int(NOW))
  if observed then redis.call('HSET', job, 'observed', observed) end
  redis.call('DEL', key('input', id), key('output', id))
  redis.call('ZREM', key('deadlines'), id, 'start|' .. id)
  unexpect('cancel', id)
  place('deliver', id, 0)
  tell(id, event)
  count('ended:' .. to)
  out[#out + 1] = id
  out[#out + 1] = envelope(id)
  for _, other in ipairs(redis.call('SMEMBERS', key('aliases', id))) do
    local state = redis.call('HGET', key('job', other), 'state')
    if state == 'queued' then finish(other, state, to, ending, nil, event, out) end
  end
  redis.call('DEL', key('aliases', id))
  return out
end

-- The event that told a job's end; nil where it is not among the latest.
local function end_event(id, state)
  for _, entry in ipairs(redis.call('XREVRANGE', key('events', id), '+', '-', 'COUNT', 5)) do
    local event = entry[2][2]
    if cjson.decode(event).phase == state then return event end
  end
end

-- Until when a 429 forbids calls of this kind, or nil.
local function held_until(target, op)
  local at = tonumber(redis.call('HGET', key('not_before'), target .. ' ' .. op) or '')
  if at and at > NOW then return at end
  if at then redis.call('HDEL', key('not_before'), target .. ' ' .. op) end
end

local function hold(target, op, ms)
  local at = math.max(after_ms(ms), held_until(target, op) or 0)
  redis.call('HSET', key('not_before'), target .. ' ' .. op, int(at))
end

-- Calls are metered by one time per target and kind: the moment when those granted so far are used up at the
-- endpoint's rate (GCRA). It may run ahead of the clock by `burst` calls.
local function meter(target, op) return tonumber(redis.call('GET', key('rate', target, op)) or '') or 0 end

local function set_meter(target, op, at)
  redis.call('SET', key('rate', target, op), int(at), 'PX', math.ceil((at - NOW) / 1000) + 60000)
end

-- How many of `wanted` calls may be made now; where none, the ms until one may.
local function grant(target, op, wanted, per_s, burst)
  local hold = held_until(target, op)
  if hold then return 0, math.ceil((hold - NOW) / 1000) end
  local each = 1000000 / per_s
  local used = math.max(meter(target, op), NOW)
  local room = math.min(wanted, math.floor((NOW + burst * each - used) / each))
  if room <= 0 then return 0, math.max(1, math.ceil((used + each - NOW - burst * each) / 1000)) end
  set_meter(target, op, used + room * each)
  return room, 0
end

-- Take one submit at a target, or say in how many ms there may be one. There is no burst right after a 429.
local function may_submit(target, per_s, burst, at_once)
  local hold = held_until(target, 'run')
  if hold then
    local each = 1000000 / per_s
    if meter(target, 'run') < hold + (burst - 1) * each then set_meter(target, 'run', hold + (burst - 1) * each) end
    return math.max(1, math.ceil((hold - NOW) / 1000))
  end
  redis.call('ZREMRANGEBYSCORE', key('calls', target), '-inf', int(NOW))
  if redis.call('ZCARD', key('calls', target)) >= at_once then return CALLS_FULL_MS end
  local _, wait = grant(target, 'run', 1, per_s, burst)
  return wait
end

-- Note how a call went at a target, for its breaker. Returns 1 where the breaker is open.
local function note_outcome(target, call, bad, id)
  local outcomes, breaker = key('outcomes', target, call), key('breaker', target)
  redis.call('LPUSH', outcomes, bad .. ' ' .. int(NOW))
  redis.call('LTRIM', outcomes, 0, OUTCOMES_KEPT - 1)
  redis.call('EXPIRE', outcomes, OUTCOMES_KEPT_S)
  local probe = redis.call('HGET', breaker, 'probe')
  if probe == id then redis.call('HSET', breaker, call, bad == 1 and 'bad' or 'ok') end
  return redis.call('EXISTS', breaker)
end

local POLLED = {waiting = true, starting = true, running = true}
local OPEN = {queued = true, submitting = true, unknown = true, waiting = true, starting = true, running = true}

local FIELDS = {'spec', 'state', 'attempt', 'retries', 'target', 'remote_id', 'correlation_id', 'cancel', 'observed',
  'created', 'submitted', 'ended', 'deliveries', 'delivered', 'alias_of', 'ending', 'unanswered', 'watched'}

local function record(id) return redis.call('HMGET', key('job', id), unpack(FIELDS)) end

-- Nothing more is owed of a job: its record goes after its retention.
local function retire(id)
  local f = redis.call('HMGET', key('job', id), 'retention', 'unrecorded')
  redis.call('ZADD', key('expiry'), after_ms(tonumber(f[1]) * 1000), id)
  if f[2] then redis.call('SET', key('tomb', id), 1, 'EX', 2592000) end
end

-- A record goes, with all that names it.
local function drop(id)
  local f = redis.call('HMGET', key('job', id), 'user', 'kind', 'endpoint', 'state', 'idem')
  redis.call('ZREM', key('expiry'), id)
  displace('deliver', id)
  redis.call('ZREM', key('idx', 'all'), id)
  if f[4] then
    redis.call('ZREM', key('idx', 'user', f[1]), id)
    redis.call('ZREM', key('idx', 'kind', f[2]), id)
    redis.call('ZREM', key('idx', 'endpoint', f[3]), id)
    redis.call('ZREM', key('idx', 'state', f[4]), id)
    if f[5] then redis.call('DEL', key('idem', f[5])) end
  end
  redis.call('DEL', key('job', id), key('input', id), key('output', id), key('envelope', id), key('events', id))
end

-- Note that a job is to stop, and how it ends then; the first reason stands.
local function ask_to_stop(job, reason, ending, to, event)
  if redis.call('HSETNX', job, 'cancel', reason) == 1 then
    redis.call('HSET', job, 'stop', cjson.encode({to = to, ending = ending, event = event}))
  end
end

-- Ask a job to stop. Returns a word, the ms after which a poll message is due (-1: none), and deliveries to send.
local function cancel(id, reason, ending, to, event)
  local job = key('job', id)
  local f = redis.call('HMGET', job, 'state', 'endpoint', 'alias_of')
  local state = f[1]
  if not state then return 'gone', -1, {} end
  if state == 'queued' or state == 'unknown' then
    if reason ~= 'expired' then redis.call('HSET', job, 'cancel', reason) end
    displace('submit:' .. f[2], id)
    if f[3] then redis.call('SREM', key('aliases', f[3]), id) end
    return 'ended', -1, finish(id, state, to, ending, nil, event, {})
  end
  if state == 'submitting' then
    ask_to_stop(job, reason, ending, to, event)
    return 'asked', -1, {}
  end
  if state == 'waiting' or state == 'starting' or state == 'running' then
    ask_to_stop(job, reason, ending, to, event)
    expect('cancel', id, RESEND_FIRST_MS)
    return 'remote', -1, {}
  end
  -- Too late for a finished job; but one that was taken for finished, because its progress was too long to read in a
  -- ride, goes back to running, and the wish is carried out then.
  if state == 'collecting' then ask_to_stop(job, reason, ending, to, event) end
  return 'over', -1, {}
end

-- operation: create
-- Accept a job: write its record, its input and its message, due to be submitted. Returns {word, id}.
-- The large texts come as they are: to put them into the JSON of the rest would encode and decode them once more.
local a, input, message, spec, event, progress = cjson.decode(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local job = key('job', a.id)
if redis.call('EXISTS', job) == 1 then return {'exists', a.id} end
if redis.call('EXISTS', key('tomb', a.id)) == 1 then return {'tombstone', a.id} end
local twin
if a.idem then
  local held = redis.call('GET', key('idem', a.idem))
  if held then
    local digest, other = string.match(held, '^(%S*) (.*)$')
    if redis.call('EXISTS', key('job', other)) == 1 then
      if digest ~= a.digest then return {'conflict', other} end
      if not a.alias then return {'same', other} end
      twin = other
    end
  end
  if not twin then redis.call('SET', key('idem', a.idem), a.digest .. ' ' .. a.id) end
end
local at = int(NOW)
redis.call('HSET', job, 'spec', spec, 'state', 'queued', 'endpoint', a.endpoint, 'user', a.user, 'kind', a.kind,
  'created', at, 'retention', a.retention_s, 'rank', a.rank)
if a.idem and not twin then redis.call('HSET', job, 'idem', a.idem) end
if a.unrecorded then redis.call('HSET', job, 'unrecorded', 1) end
redis.call('SET', key('envelope', a.id), message)
redis.call('ZADD', key('idx', 'all'), at, a.id)
redis.call('ZADD', key('idx', 'state', 'queued'), at, a.id)
redis.call('ZADD', key('idx', 'kind', a.kind), at, a.id)
redis.call('ZADD', key('idx', 'endpoint', a.endpoint), at, a.id)
if a.user ~= '' then redis.call('ZADD', key('idx', 'user', a.user), at, a.id) end
tell(a.id, event)
if a.meta_key then show({key = a.meta_key, value = progress, ttl = a.meta_ttl}) end
if twin then
  redis.call('HSET', job, 'alias_of', twin)
  local f = redis.call('HMGET', key('job', twin), 'state', 'ending')
  if f[2] then
    local deliveries = finish(a.id, 'queued', f[1], f[2], nil, end_event(twin, f[1]), {})
    return {'ended', a.id, unpack(deliveries)}
  end
  redis.call('SADD', key('aliases', twin), a.id)
  return {'alias', a.id}
end
redis.call('SET', key('input', a.id), input)
place('submit:' .. a.endpoint, a.id, a.delay_ms)
if a.deadline_ms then redis.call('ZADD', key('deadlines'), after_ms(a.deadline_ms), a.id) end
if a.start_by_ms then redis.call('ZADD', key('deadlines'), after_ms(a.start_by_ms), 'start|' .. a.id) end
-- Where the broker is this database, the message is in its queue in the same moment as the record.
if ARGV[7] then redis.call('LPUSH', ARGV[7], ARGV[8]) end
return {'created', a.id}

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

-- operation: watch allow-oom
-- Somebody follows the job for the next ms: it is polled at once, and more often. Returns {ms until a poll message is
-- due or -1, target}.
local a = cjson.decode(ARGV[1])
local f = redis.call('HMGET', key('job', a.id), 'state', 'target', 'watched')
if not OPEN[f[1] or ''] then return {-1, ''} end
redis.call('HSET', key('job', a.id), 'watched', int(after_ms(a.ms)))
if not POLLED[f[1]] or (tonumber(f[3] or '') or 0) > NOW then return {-1, ''} end
return {nudge(a.id, f[2]), f[2]}

-- operation: claim_polls allow-oom
-- Take up to `most` jobs that are due at a target for one ride. Returns {fence, now, in flight, ms, rows}.
local a = cjson.decode(ARGV[1])
local where = key('due', 'poll:' .. a.target)
local rides = key('rides', a.target)
local held = tonumber(redis.call('HGET', key('wake'), a.target) or '')
if held and held <= NOW + DUE_SLACK_US then redis.call('HDEL', key('wake'), a.target) end
local flight = redis.call('ZCARD', where)
redis.call('ZREMRANGEBYSCORE', rides, '-inf', int(NOW))
local ids = redis.call('ZRANGE', where, '-inf', int(NOW + DUE_SLACK_US), 'BYSCORE', 'LIMIT', 0, a.most)
if #ids == 0 then
  -- Somebody else has them, or the message came before its time (another host's clock). The second is not sent again,
  -- or two hosts would pass it to and fro: its own time still stands in `wake`.
  local first = redis.call('ZRANGE', where, 0, 0, 'WITHSCORES')
  return {'', int(NOW), flight, first[2] and wake(a.target, tonumber(first[2])) or -1, {}}
end
local room, wait = 0, 250
if redis.call('ZCARD', rides) < a.most_rides then room, wait = grant(a.target, 'status', #ids, a.per_s, a.burst) end
if room == 0 then return {'', int(NOW), flight, wake(a.target, after_ms(wait)), {}} end
-- The first in line are the latest: how many of those taken came too late, and how many very late.
local behind = math.min(room, redis.call('ZCOUNT', where, '-inf', int(NOW - OVERDUE_US)))
if behind > 0 then
  count('recovered_polls', behind)
  local late = math.min(room, redis.call('ZCOUNT', where, '-inf', int(NOW - LATE_US)))
  if late > 0 then count('late_polls', late) end
end
local lease = lease_until(a.lease_ms, a.fence)
local scores, rows = {}, {}
for i = 1, room do
  local fields = record(ids[i])
  if fields[1] then
    scores[#scores + 1] = lease
    scores[#scores + 1] = ids[i]
    rows[#rows + 1] = {ids[i], fields}
  else
    -- One without a record must not keep the others of its ride from being polled.
    redis.call('ZREM', where, ids[i])
  end
end
if #rows == 0 then return {'', int(NOW), flight, wake(a.target, NOW), {}} end
redis.call('ZADD', where, 'XX', unpack(scores))
redis.call('ZADD', rides, lease, int(lease))
return {int(lease), int(NOW), flight, -1, rows}

-- operation: settle allow-oom
-- Carry out what was decided about claimed jobs. Returns {ms until a poll message is due or -1, words, deliveries}.
--   a = {from, fence, items, target?, last?, hold_ms?}
--   item = {id, old, new, to, in_ms, observed?, retries?, unanswered?, event?, meta?, ending?, keep?, output?, orphan?,
--     message?}
-- `message` asks for the job's envelope, to send the message of its next step; `sample` is a target and what to add to
-- its history; `outcome` is a target, a call and 1 where it went wrong, for the target's breaker.
local a = cjson.decode(ARGV[1])

-- How a job ends that was asked to stop, maybe after it was claimed: there is no new attempt, and no other end than
-- the wanted one but a result.
local function stopping(job, item)
  if item.new == 'completed' or not (item.ending or item.new == 'queued') then return end
  local stop = redis.call('HGET', job, 'stop')
  return stop and cjson.decode(stop)
end

local due = key('due', a.from)
local ids, words, out, keep, open = {}, {}, {}, {}, 0
local fence = tonumber(a.fence)
for i, item in ipairs(a.items) do ids[i] = item.id end
local scores = #ids > 0 and redis.call('ZMSCORE', due, unpack(ids)) or {}
local nudged = (a.target and #ids > 0) and redis.call('SMISMEMBER', key('nudged', a.target), unpack(ids)) or {}
for i, item in ipairs(a.items) do
  local id, job = item.id, key('job', item.id)
  if tonumber(scores[i] or '') ~= fence then
    words[i] = 'lost'
    count('fences_lost')
  else
    words[i] = 'settled'
    if nudged[i] == 1 then redis.call('SREM', key('nudged', a.target), id) end
    if item.sample then
      local stats = key('stats', item.sample[1])
      redis.call('LPUSH', stats, item.sample[2])
      redis.call('LTRIM', stats, 0, SAMPLES_KEPT - 1)
    end
    if item.outcome then open = math.max(open, note_outcome(item.outcome[1], item.outcome[2], item.outcome[3], id)) end
    local stop = stopping(job, item)
    if item.observed then redis.call('HSET', job, 'observed', item.observed) end
    if stop and not item.ending then
      displace(a.from, id)
      finish(id, item.old, stop.to, stop.ending, nil, stop.event, {})
      -- Whoever settles was about to send the message of another attempt; this one goes by the outbox.
      expect('deliver', id, 0)
    elseif item.ending then
      local to, ending, event = item.new, item.ending, item.event
      if stop then to, ending, event = stop.to, stop.ending, stop.to == to and event or stop.event end
      displace(a.from, id)
      if item.orphan then
        redis.call('ZADD', key('outbox'), after_ms(0), 'orphan|' .. item.orphan)
        count('orphans')
      end
      finish(id, item.old, to, ending, nil, event, out)
      -- Whoever delivers the job under its own message goes on with the lease it has.
      if item.keep then
        redis.call('ZADD', due, fence, id)
        expect('deliver', id, math.max(0, (fence - NOW) / 1000) + 500)
      end
    else
      move(id, item.old, item.new)
      if item.old == 'collecting' and redis.call('HEXISTS', job, 'stop') == 1 then expect('cancel', id, 0) end
      if item.output then redis.call('SET', key('output', id), item.output) end
      if item.retries then
        redis.call('HSET', job, 'retries', item.retries, 'remote_id', '', 'submitted', 0)
        count('retries')
      end
      if item.unanswered then
        redis.call('HSET', job, 'unanswered', item.unanswered)
        count('resubmits')
      end
      if item.new == 'unknown' then count('unknowns') end
      if endpoint_of(a.from) then redis.call('ZREM', key('calls', redis.call('HGET', job, 'target') or ''), id) end
      local ms = item.in_ms
      if nudged[i] == 1 then ms = 0 end
      if item.to == a.from and a.target then
        keep[#keep + 1] = after_ms(ms)
        keep[#keep + 1] = id
      else
        if item.to ~= a.from then displace(a.from, id) end
        place(item.to, id, ms)
        if item.message and ms <= FAR_MS then
          out[#out + 1] = id
          out[#out + 1] = envelope(id)
        end
      end
      tell(id, item.event)
      show(item.meta)
    end
  end
end
if #keep > 0 then redis.call('ZADD', due, 'XX', unpack(keep)) end
if a.hold_ms then hold(a.target, 'status', a.hold_ms) end
local ms = -1
if a.last then
  redis.call('ZREM', key('rides', a.target), a.fence)
  -- A message that came during the ride was turned away, one ride a process: it carries nobody on.
  local held = tonumber(redis.call('HGET', key('wake'), a.target) or '')
  if held and held <= NOW then redis.call('HDEL', key('wake'), a.target) end
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  local soonest = redis.call('ZCARD', due) > MANY_IN_FLIGHT and after_ms(RIDE_PAUSE_MS) or NOW
  if first[2] then ms = wake(a.target, math.max(tonumber(first[2]), soonest)) end
end
return {ms, words, out, open}

-- operation: claim_deliver allow-oom
-- Take a job whose GPU work is over (ARGV id, or the first that is due), to collect or to deliver it.
local a = cjson.decode(ARGV[1])
local due = key('due', 'deliver')
local id = a.id
if not id then
  id = redis.call('ZRANGE', due, '-inf', int(NOW), 'BYSCORE', 'LIMIT', 0, 1)[1]
  if not id then return {'none', 0} end
end
local score = tonumber(redis.call('ZSCORE', due, id) or '')
if not score then
  return {redis.call('EXISTS', key('job', id)) == 1 and 'moved' or 'gone', 0}
end
if score > NOW + DUE_SLACK_US then
  return {is_lease(score) and 'held' or 'early', math.ceil((score - NOW) / 1000)}
end
local lease = lease_until(a.lease_ms, a.fence)
redis.call('ZADD', due, lease, id)
expect('deliver', id, a.lease_ms + 500)
redis.call('HINCRBY', key('job', id), 'deliveries', 1)
return {'claimed', 0, id, int(lease), int(NOW), record(id), redis.call('GET', key('output', id))}

-- operation: release allow-oom
-- Give a claim back: the job is due again in `ms`.
local a = cjson.decode(ARGV[1])
if tonumber(redis.call('ZSCORE', key('due', a.from), a.id) or '') ~= tonumber(a.fence) then return 0 end
redis.call('ZADD', key('due', a.from), after_ms(a.ms), a.id)
expect(a.from, a.id, a.ms + RESEND_FIRST_MS)
return 1

-- operation: delivered allow-oom
-- Celery has stored the end: nothing more is owed. The record goes after its retention.
local id = ARGV[1]
local job = key('job', id)
if redis.call('HEXISTS', job, 'ending') == 0 then return 0 end
redis.call('HSET', job, 'delivered', int(NOW))
displace('deliver', id)
redis.call('DEL', key('envelope', id))
retire(id)
-- Who asks Celery for a result subscribes and then looks, on two connections: one that looked just before the end and
-- was heard just after it would wait for ever. So the result is told once more.
local result = redis.call('GET', ARGV[2])
if result then redis.call('PUBLISH', ARGV[2], result) end
return 1

-- operation: cancel allow-oom
-- Ask a job to stop, for a reason; `to` and `ending` say how it ends if no GPU has it.
local a = cjson.decode(ARGV[1])
local word, ms, out = cancel(a.id, a.reason, a.ending, a.to, a.event)
return {word, ms, out}

-- operation: cancel_sent allow-oom
-- The cloud was told to cancel: look at the job at once. It is told again, with growing gaps, until the job has
-- ended. Returns {ms until a poll message is due or -1, target}.
local id = ARGV[1]
local f = redis.call('HMGET', key('job', id), 'state', 'target')
if f[1] ~= 'waiting' and f[1] ~= 'starting' and f[1] ~= 'running' then
  unexpect('cancel', id)
  return {-1, ''}
end
return {nudge(id, f[2]), f[2]}

-- operation: orphan_done allow-oom
redis.call('ZREM', key('outbox'), 'orphan|' .. ARGV[1])
return 1

-- operation: nudge allow-oom
-- Somebody has a reason to think that a job has news. Takes no lease. Returns ms until a poll message is due or -1.
local f = redis.call('HMGET', key('job', ARGV[1]), 'state', 'target')
if f[1] ~= 'waiting' and f[1] ~= 'starting' and f[1] ~= 'running' then return {-1, ''} end
return {nudge(ARGV[1], f[2]), f[2]}

-- operation: hold allow-oom
-- A 429: no call of this kind to the target for a while.
local a = cjson.decode(ARGV[1])
hold(a.target, a.op, a.ms)
return 1

-- operation: breaker no-writes
-- A target's breaker and the outcomes behind it: {now, open, until, pause_ms, why, probe's run, its attempt, lists...}.
local f = redis.call('HMGET', key('breaker', ARGV[1]), 'open', 'until', 'pause_ms', 'why', 'run', 'attempt')
local run = redis.call('LRANGE', key('outcomes', ARGV[1], 'run'), 0, -1)
return {int(NOW), f[1], f[2], f[3], f[4], f[5], f[6], run, redis.call('LRANGE', key('outcomes', ARGV[1], 'attempt'), 0, -1)}

-- operation: change_breaker allow-oom
-- Open a breaker, let its pause grow, or (without `until`) close it. Returns 1 where it was as the caller thought.
local a = cjson.decode(ARGV[1])
local breaker = key('breaker', a.target)
if (tonumber(redis.call('HGET', breaker, 'until') or '') or 0) ~= a.was then return 0 end
if a['until'] then
  if redis.call('HSETNX', breaker, 'open', int(NOW)) == 1 then count('breaker_opened') end
  redis.call('HSET', breaker, 'until', int(a['until']), 'pause_ms', a.pause_ms, 'why', a.why)
  redis.call('HDEL', breaker, 'probe', 'run', 'attempt')
else
  redis.call('DEL', breaker, key('outcomes', a.target, 'run'), key('outcomes', a.target, 'attempt'))
  count('breaker_closed')
end
return 1

-- operation: remark allow-oom
-- Tell something about a job that still waits to be submitted.
local a = cjson.decode(ARGV[1])
local f = redis.call('HMGET', key('job', a.id), 'state', 'attempt')
if f[1] ~= 'queued' or (tonumber(f[2] or '') or 0) ~= a.attempt then return 0 end
redis.call('HSET', key('job', a.id), 'observed', a.observed)
tell(a.id, a.event)
show(a.meta)
return 1

-- operation: look allow-oom
-- What the fleet knows of a target. With `ask_ms`, take the right to ask its /health, which is given once in that time;
-- `samples` says whether to return them. Returns {now, right or '', watch or nil, samples}.
local a = cjson.decode(ARGV[1])
local right = ''
if a.ask_ms and redis.call('SET', key('asked', a.target), int(NOW), 'NX', 'PX', a.ask_ms) then right = int(NOW) end
local samples = a.samples and redis.call('LRANGE', key('stats', a.target), 0, -1) or {}
return {int(NOW), right, redis.call('GET', key('health', a.target)), samples}

-- operation: record_health allow-oom
-- What /health said and what follows from it, by whoever has the right to ask. Returns 1 where it counted.
local a = cjson.decode(ARGV[1])
if redis.call('GET', key('asked', a.target)) ~= a.right then return 0 end
redis.call('SET', key('health', a.target), ARGV[2], 'EX', HEALTH_KEPT_S)
return 1

-- operation: alert allow-oom
-- Tell the operator, once: while it goes on, and for `quiet_ms` after, the same is not told again. Returns 1 where told.
local a = cjson.decode(ARGV[1])
if not redis.call('SET', key('alerted', a.what), 1, 'NX', 'PX', a.quiet_ms) then
  redis.call('PEXPIRE', key('alerted', a.what), a.quiet_ms)
  return 0
end
redis.call('XADD', key('alerts'), 'MAXLEN', '~', ALERTS_KEPT, '*', 'e', ARGV[2])
count('alerts')
return 1

-- operation: tidy allow-oom
-- What names jobs that have no record. a = {name, members = [[member, id]...], dry}: members of a set, or with an empty
-- name keys of their own. Removes them (not if `dry`) and returns how many those are.
local a = cjson.decode(ARGV[1])
local removed = 0
local zset = a.name ~= '' and redis.call('TYPE', key(a.name)).ok == 'zset'
for _, pair in ipairs(a.members) do
  local member, id = pair[1], pair[2]
  if redis.call('EXISTS', key('job', id)) == 0 then
    removed = removed + 1
    if a.dry then
      -- Only counted.
    elseif a.name == '' then
      redis.call('DEL', key(member))
    else
      redis.call(zset and 'ZREM' or 'SREM', key(a.name), member)
    end
  end
end
return removed

-- operation: mend allow-oom
-- Look over one record (a = {id, dry}) and returns what was the matter with it: `expired`, it is past its retention and
-- goes; `forgotten`, it has ended, nobody delivers it and nobody would drop it: now its retention begins; `astray`, it is
-- under way and due nowhere: it is due again; else `fine`.
local a = cjson.decode(ARGV[1])
local id = a.id
local f = redis.call('HMGET', key('job', id), 'state', 'endpoint', 'target', 'alias_of', 'ending')
local state = f[1]
if not state then return 'fine' end
if f[5] then
  local at = tonumber(redis.call('ZSCORE', key('expiry'), id) or '')
  if at and at <= NOW then
    if not a.dry then drop(id) end
    return 'expired'
  end
  if at or redis.call('ZSCORE', key('due', 'deliver'), id) then return 'fine' end
  if not a.dry then retire(id) end
  return 'forgotten'
end
if f[4] then return 'fine' end
local where = state == 'collecting' and 'deliver' or POLLED[state] and 'poll:' .. f[3] or 'submit:' .. f[2]
if redis.call('ZSCORE', key('due', where), id) then return 'fine' end
if not a.dry then place(where, id, 0) end
return 'astray'

-- operation: note_recovery allow-oom
-- After a sweep that sent so many messages again. A burst of recovery begins with the first of them, and is over when
-- for `calm_ms` none was needed. Returns {messages, polls, late polls, ms that it took} of one that is over, else {}.
local a = cjson.decode(ARGV[1])
local recovery = key('recovery')
local function now_counted()
  local f = redis.call('HMGET', key('counters'), 'recovery_messages', 'recovered_polls', 'late_polls')
  return tonumber(f[1] or '') or 0, tonumber(f[2] or '') or 0, tonumber(f[3] or '') or 0
end
local messages, polls, late = now_counted()
if a.sent > 0 then
  count('recovery_messages', a.sent)
  redis.call('HSETNX', recovery, 'began', int(NOW))
  redis.call('HSETNX', recovery, 'messages', messages)
  redis.call('HSETNX', recovery, 'polls', polls)
  redis.call('HSETNX', recovery, 'late', late)
  redis.call('HSET', recovery, 'last', int(NOW))
  return {}
end
local f = redis.call('HMGET', recovery, 'began', 'last', 'messages', 'polls', 'late')
if not f[2] or NOW - f[2] < a.calm_ms * 1000 then return {} end
redis.call('DEL', recovery)
count('recoveries')
return {messages - f[3], polls - f[4], late - f[5], math.ceil((f[2] - f[1]) / 1000)}

-- operation: load no-writes
-- One record as it stands. Returns {now, fields}; without fields where there is none.
local id = ARGV[1]
if redis.call('EXISTS', key('job', id)) == 0 then return {int(NOW)} end
return {int(NOW), record(id)}

-- operation: envelope no-writes
return envelope(ARGV[1])

-- operation: sweep allow-oom
-- What every process looks after, in bounded bites: deadlines, messages that are overdue, records that may go.
-- Returns {messages = [kind, id, payload]..., wakes = [target]..., lines = [endpoint]...}.
local a = cjson.decode(ARGV[1])
local messages, wakes, lines = {}, {}, {}
local function send(kind, id, payload)
  messages[#messages + 1] = kind
  messages[#messages + 1] = id
  messages[#messages + 1] = payload
end
local function send_all(out)
  for i = 1, #out, 2 do send('deliver', out[i], out[i + 1]) end
end

-- Poll messages come first: they carry most jobs.
for _, target in ipairs(redis.call('SMEMBERS', key('targets'))) do
  local due = key('due', 'poll:' .. target)
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if not first[2] then
    redis.call('SREM', key('targets'), target)
    redis.call('DEL', key('nudged', target))
    redis.call('HDEL', key('wake'), target)
    redis.call('HDEL', key('wake_pushed'), target)
  elseif tonumber(first[2]) < NOW - a.grace_ms * 1000 then
    local pushed = tonumber(redis.call('HGET', key('wake_pushed'), target) or '') or 0
    if pushed <= NOW then
      redis.call('HSET', key('wake_pushed'), target, int(after_ms(RESEND_FIRST_MS)))
      redis.call('HSET', key('wake'), target, int(NOW))
      wakes[#wakes + 1] = target
      count('recovered_wakes')
    end
  end
end

-- A line whose first job is overdue and whose wake message did not come gets another.
for _, endpoint in ipairs(redis.call('SMEMBERS', key('lines'))) do
  local where, user = 'submit:' .. endpoint, redis.call('ZRANGE', key('ring', endpoint), 0, 0)[1]
  local first = user and redis.call('ZRANGE', key('line', endpoint, user), 0, 0)[1]
  local due = first and tonumber(redis.call('ZSCORE', key('due', where), first) or '')
  local woken = tonumber(redis.call('HGET', key('wake'), where) or '') or 0
  local pushed = tonumber(redis.call('HGET', key('wake_pushed'), where) or '') or 0
  if not user then
    redis.call('SREM', key('lines'), endpoint)
    redis.call('HDEL', key('wake'), where)
    redis.call('HDEL', key('wake_pushed'), where)
  elseif not due then
    -- The job, or the whole line, is gone: the next claim puts it right.
    redis.call('ZREM', key('line', endpoint, user), first or '')
    if redis.call('EXISTS', key('line', endpoint, user)) == 0 then redis.call('ZREM', key('ring', endpoint), user) end
  elseif due < NOW - RESEND_FIRST_MS * 1000 and woken < NOW - a.grace_ms * 1000 and pushed <= NOW then
    redis.call('HSET', key('wake_pushed'), where, int(after_ms(RESEND_FIRST_MS)))
    redis.call('HSET', key('wake'), where, int(NOW))
    lines[#lines + 1] = endpoint
    count('recovered_wakes')
  end
end

for _, member in ipairs(redis.call('ZRANGE', key('deadlines'), '-inf', int(NOW), 'BYSCORE', 'LIMIT', 0, a.most)) do
  redis.call('ZREM', key('deadlines'), member)
  local starts = string.match(member, '^start|(.*)$')
  if starts then
    if redis.call('HGET', key('job', starts), 'state') == 'queued' then
      local _, _, out = cancel(starts, 'expired', a.expired.ending, 'expired', a.expired.event)
      send_all(out)
    end
  else
    local word, _, out = cancel(member, 'deadline', a.deadline.ending, 'timed_out', a.deadline.event)
    if word == 'remote' then send('cancel', member, '') end
    send_all(out)
  end
end

for _, member in ipairs(redis.call('ZRANGE', key('outbox'), '-inf', int(NOW), 'BYSCORE', 'LIMIT', 0, a.most)) do
  local kind, id = string.match(member, '^([^|]*)|(.*)$')
  if kind == 'orphan' then
    redis.call('ZADD', key('outbox'), after_ms(ORPHAN_RESEND_MS), member)
    send('orphan', id, '')
  elseif redis.call('HEXISTS', key('wake'), kind) == 1 and redis.call('ZSCORE', line_of(endpoint_of(kind), id), id) then
    -- It is in a line that moves on: its own message would only be turned away.
    redis.call('ZADD', key('outbox'), after_ms(LINED_UP_MS), member)
  else
    local job = key('job', id)
    local times = redis.call('EXISTS', job) == 1 and redis.call('HINCRBY', job, 'resends', 1) or -1
    if times < 0 then
      redis.call('ZREM', key('outbox'), member)
    elseif times > a.most_resends and kind == 'deliver' then
      redis.call('ZREM', key('outbox'), member)
      retire(id)
      tell(id, a.undelivered)
      count('undelivered')
    else
      local ms = math.min(RESEND_FIRST_MS * 2 ^ (times - 1), RESEND_MOST_MS)
      redis.call('ZADD', key('outbox'), after_ms(ms), member)
      count('recovered_messages')
      local step = string.match(kind, '^[^:]*')
      send(step, id, step == 'cancel' and '' or envelope(id))
    end
  end
end

for _, id in ipairs(redis.call('ZRANGE', key('expiry'), '-inf', int(NOW), 'BYSCORE', 'LIMIT', 0, a.most)) do
  drop(id)
end
return {messages, wakes, lines}
