-- Every change that the job store makes in Redis, one named operation each.
--
-- This file, usage.lua, money.lua, metrics.lua and cells.lua are put before each of them; the other files of this folder
-- hold them, by noun. An operation starts with
--     -- operation: NAME [flags]
-- and is run by EVALSHA with KEYS[1] = the prefix of all keys. All but `create` run even when Redis has no memory
-- left (`allow-oom`, `no-writes`): what was accepted must be able to end, and only ends give memory back.
--
-- Keys under the prefix:
--     job:ID            hash    the record
--     input:ID          string  the job's input, compressed; gone once the job has completed. That of one that ended
--                               otherwise stays with its record, for a retry, where the record has `keeps`
--     fallbacks:ID      list    inputs that may take its place, for a job with fallbacks; goes with it
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
--     outcomes:TARGET:CALL list how the latest calls (run | attempt | wait) went there, newest first: "1 TIME" is bad
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
--     busy:TARGET:OP    zset    calls of this kind under way that are made one at a time, by the end of their lease
--     rides:TARGET      zset    rides under way, by the end of their lease
--     idem:N:USER:KEY   string  "DIGEST ID" of the job made under an idempotency key
--     tomb:ID           string  a job that came without a record of its own is over; kept 30 days
--     aliases:ID        set     jobs that end as this one does
--     spend:DAY         hash    micro-dollars spent and reserved on a day: endpoint:E and user:U; kept 40 days
--     usage:DAY         hash    what was used on a day of UTC, and by whom (see usage.lua); kept 400 days, as is
--                               usage_users:DAY
--     starts:TARGET     zset    when a job was sent -> when a worker took it, of those that a worker's start counts for
--     cells:ID          hash    how the cells of a sheet stand, by name (see cells.lua)
--     health:TARGET     string  what is known of a target since somebody last waited there (JSON of a `Watch`)
--     asked:TARGET      string  nobody asks /health before this expires; its value is the right to record the answer
--     stats:TARGET      list    a sample of each attempt that ended, the newest first, capped
--     alerts            stream  what an operator should know, capped
--     alerted:WHAT      string  the same is not told again before this expires
--     alerts_sender     string  which process sends alerts on to services, until it expires
--     alerts_sent       hash    how far each service has been told (JSON of a `Told`), by a digest of its address
--     idx:all | idx:user:U | idx:kind:K | idx:endpoint:E | idx:state:S   zsets of job ids by creation
--     counters          hash    what happened how often
--     metric:NAME       hash    what is counted for `ryla metrics`, by labels (see metrics.lua)
--     workers           zset    worker processes that sweep -> when they did last
--     provider_calls    hash    how many calls were made, by "TARGET OPERATION HOW"; HOW is a status code, `none` for no
--                               answer, or `repeated` for a call that was made once more
--     recovery          hash    the burst of recovery that goes on: when it began and was last needed, and the
--                               counters at its beginning
--
-- Times are microseconds by the clock of Redis; what comes in and goes out are delays. In a due set the score says
-- which it is: a due time is a whole millisecond, a lease never is, and its last three digits are the random part
-- that makes it a fence. Whoever settles must name the very score that the claim gave out.

local P = KEYS[1]

-- Closes an attempt's account; in money.lua.
local pay
-- Counts an end; in metrics.lua.
local measure_end
-- Books an end in the ledger; in usage.lua.
local use_end
-- What ends and stops sheets; in cells.lua.
local cell_over, cancel_sheet, cancel

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
-- So many jobs that a budget forbids are ended by one claim; the rest of them is for the next.
local MOST_REFUSED = 32
-- At a target with more jobs than this in flight some are due at any moment: rides leave time for them to gather.
local MANY_IN_FLIGHT, RIDE_PAUSE_MS = 128, 100
local EVENTS_KEPT = 500
local SAMPLES_KEPT = 500
local OUTCOMES_KEPT, OUTCOMES_KEPT_S = 50, 3600
local ALERTS_KEPT = 1000
local HEALTH_KEPT_S = 604800
-- What a target's breaker goes by, in the order of Python's `Call`.
local CALLS = {'run', 'attempt', 'wait'}
-- An older answer of /health says nothing of now.
local HEALTH_FRESH_S = 90
-- How soon a retry is looked at again that is held because its target is down.
local RETRY_HELD_MS = 10000

local function count(name, n) redis.call('HINCRBY', key('counters'), name, n or 1) end

-- Tell the operator, once. Returns 1 where told.
local function alert(what, quiet_ms, event)
  if not redis.call('SET', key('alerted', what), 1, 'NX', 'PX', quiet_ms) then
    redis.call('PEXPIRE', key('alerted', what), quiet_ms)
    return 0
  end
  redis.call('XADD', key('alerts'), 'MAXLEN', '~', ALERTS_KEPT, '*', 'e', event)
  count('alerts')
  return 1
end

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
  pay(id)
  redis.call('HSET', job, 'ending', ending, 'ended', int(NOW))
  if observed then redis.call('HSET', job, 'observed', observed) end
  if from == 'unknown' then redis.call('HSET', job, 'doubt', 1) end
  redis.call('DEL', key('output', id))
  -- What another job may be made of goes with the record: a sheet makes what is missing of one, a retry all of one that
  -- has not completed.
  if to == 'completed' or redis.call('HEXISTS', job, 'keeps') == 0 then
    redis.call('DEL', key('fallbacks', id))
    if redis.call('HEXISTS', job, 'sheet_of') == 0 then redis.call('DEL', key('input', id)) end
  end
  redis.call('ZREM', key('deadlines'), id, 'start|' .. id)
  unexpect('cancel', id)
  place('deliver', id, 0)
  tell(id, event)
  count('ended:' .. to)
  measure_end(id, to, ending)
  use_end(id, to)
  out[#out + 1] = id
  out[#out + 1] = envelope(id)
  cell_over(id, to, out)
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

-- What is known of a target's health, unless it is of another time; and whether nothing should be expected of it.
local function watch_of(target)
  local text = redis.call('GET', key('health', target))
  local watch = text and cjson.decode(text)
  if watch and NOW / 1000000 - watch.at <= HEALTH_FRESH_S then return watch end
end

local function is_down(watch) return watch ~= nil and (watch.stuck or watch.error ~= '') end

local POLLED = {waiting = true, starting = true, running = true}
local OPEN = {queued = true, submitting = true, unknown = true, waiting = true, starting = true, running = true}

local FIELDS = {'spec', 'state', 'attempt', 'retries', 'target', 'remote_id', 'correlation_id', 'cancel', 'observed',
  'created', 'submitted', 'ended', 'deliveries', 'delivered', 'alias_of', 'ending', 'unanswered', 'watched', 'fallbacks',
  'price', 'paid', 'reserved', 'cold_ms'}

local function record(id) return redis.call('HMGET', key('job', id), unpack(FIELDS)) end

-- Nothing more is owed of a job: its record goes after its retention, a cell's with that of its sheet.
local function retire(id)
  local f = redis.call('HMGET', key('job', id), 'retention', 'unrecorded', 'sheet')
  if f[3] and redis.call('EXISTS', key('job', f[3])) == 1 then return end
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
  local cells = redis.call('HKEYS', key('cells', id))
  redis.call('DEL', key('job', id), key('input', id), key('fallbacks', id), key('output', id), key('envelope', id),
    key('events', id), key('cells', id))
  for _, name in ipairs(cells) do
    local cell = id .. '-' .. name
    if redis.call('HGET', key('job', cell), 'sheet') == id then drop(cell) end
  end
end

-- Note that a job is to stop, and how it ends then; the first reason stands.
local function ask_to_stop(job, reason, ending, to, event)
  if redis.call('HSETNX', job, 'cancel', reason) == 1 then
    if reason == 'budget' then count('budget_stopped') end
    redis.call('HSET', job, 'stop', cjson.encode({to = to, ending = ending, event = event}))
  end
end

-- Ask a job to stop. Returns a word, the ms after which a poll message is due (-1: none), and deliveries to send.
cancel = function(id, reason, ending, to, event)
  local job = key('job', id)
  local f = redis.call('HMGET', job, 'state', 'endpoint', 'alias_of', 'sheet_of')
  local state = f[1]
  if not state then return 'gone', -1, {} end
  if f[4] and (state == 'queued' or state == 'running') then
    return cancel_sheet(id, state, reason, ending, to, event)
  end
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
