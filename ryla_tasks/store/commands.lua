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
--     nudged:TARGET     set     jobs to poll at once although somebody holds them
--     outbox            zset    messages that must exist: "submit:ENDPOINT|ID", "deliver|ID", "cancel|ID",
--                               "orphan|TARGET REMOTE_ID"; the score is when to send (again)
--     deadlines         zset    job -> when it must be done; "start|ID" -> when it must have started
--     expiry            zset    job -> when its record goes
--     targets           set     targets with jobs in flight
--     wake              hash    target -> when its earliest outstanding poll message comes
--     wake_pushed       hash    target -> no sweep sends it another poll message before this
--     not_before        hash    target OP -> no call before this (429)
--     rate:TARGET:OP    string  when the calls granted so far will have been spent (GCRA); OP:line, the same for
--                               calls that have a place in line
--     rides:TARGET      zset    rides under way, by the end of their lease
--     idem:N:USER:KEY   string  "DIGEST ID" of the job made under an idempotency key
--     tomb:ID           string  a job that came without a record of its own is over; kept 30 days
--     aliases:ID        set     jobs that end as this one does
--     idx:all | idx:user:U | idx:kind:K | idx:endpoint:E | idx:state:S   zsets of job ids by creation
--     counters          hash    what happened how often
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
local FAR_MS = 30000
local EVENTS_KEPT = 500

local function count(name, n) redis.call('HINCRBY', key('counters'), name, n or 1) end

-- An event is told by appending it to the job's stream; watchers read it from there.
local function tell(id, event)
  if event then redis.call('XADD', key('events', id), 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', event) end
end

-- The Celery result of a job under way. Only another PROGRESS (or nothing) is written over: never an end.
local function show(meta)
  if not meta then return end
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

-- Put a job where it is due next. Poll messages belong to targets (see wake), all others to jobs (see outbox).
local function place(where, id, ms)
  redis.call('ZADD', key('due', where), after_ms(ms), id)
  redis.call('HDEL', key('job', id), 'resends')
  if string.sub(where, 1, 5) == 'poll:' then
    redis.call('SADD', key('targets'), string.sub(where, 6))
  else
    -- Whoever places a job sends its message, but for a distant time the outbox alone keeps it.
    expect(where, id, ms > FAR_MS and ms or ms + RESEND_FIRST_MS)
  end
end

local function displace(where, id)
  redis.call('ZREM', key('due', where), id)
  if string.sub(where, 1, 5) ~= 'poll:' then unexpect(where, id) end
end

-- Whether a poll message for `at` has to be sent: the delay in ms, or -1 where an earlier one is outstanding.
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

-- Reserve one call, now or at its moment in line: the ms until then. There is no burst right after a 429.
local function reserve(target, op, per_s, burst)
  local each, line = 1000000 / per_s, op .. ':line'
  local used = math.max(meter(target, line), NOW)
  local hold = held_until(target, op)
  if hold then used = math.max(used, hold + (burst - 1) * each) end
  set_meter(target, line, used + each)
  local us = used + each - burst * each - NOW
  -- Due times are whole milliseconds, rounded down: one more, so that nobody comes before the place in line.
  return us > 0 and math.ceil(us / 1000) + 1 or 0
end

local FIELDS = {'spec', 'state', 'attempt', 'retries', 'target', 'remote_id', 'correlation_id', 'cancel', 'observed',
  'created', 'submitted', 'ended', 'deliveries', 'delivered', 'alias_of', 'ending'}

local function record(id) return redis.call('HMGET', key('job', id), unpack(FIELDS)) end

-- Nothing more is owed of a job: its record goes after its retention.
local function retire(id)
  local f = redis.call('HMGET', key('job', id), 'retention', 'unrecorded')
  redis.call('ZADD', key('expiry'), after_ms(tonumber(f[1]) * 1000), id)
  if f[2] then redis.call('SET', key('tomb', id), 1, 'EX', 2592000) end
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
  'created', at, 'retention', a.retention_s)
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
-- Take a queued job (ARGV id, or the first due at the endpoint) for submission, and write down the intent.
local a = cjson.decode(ARGV[1])
local where = 'submit:' .. a.endpoint
local id = a.id
if not id then
  id = redis.call('ZRANGE', key('due', where), '-inf', int(NOW), 'BYSCORE', 'LIMIT', 0, 1)[1]
  if not id then return {'none', 0} end
end
local job = key('job', id)
local f = redis.call('HMGET', job, 'state', 'attempt', 'reserved')
local state = f[1]
if not state then return {'gone', 0} end
if state ~= 'queued' and state ~= 'submitting' then return {'moved', 0} end
local score = tonumber(redis.call('ZSCORE', key('due', where), id) or '')
if not score then return {'moved', 0} end
if score > NOW + DUE_SLACK_US then
  if is_lease(score) then return {'held', 0} end
  return {'early', math.ceil((score - NOW) / 1000)}
end
local start_by = tonumber(redis.call('ZSCORE', key('deadlines'), 'start|' .. id) or '')
if start_by and start_by <= NOW then return {'expired', 0} end
if state == 'queued' then
  -- A place in line is for a moment: who comes late for it must not go out in a bunch, nor into a 429.
  local wait = f[3] and 0 or reserve(a.target, 'run', a.per_s, a.burst)
  if wait == 0 and grant(a.target, 'run', 1, a.per_s, a.burst) == 0 then
    wait = math.max(1, reserve(a.target, 'run', a.per_s, a.burst))
  end
  if wait > 0 then
    redis.call('HSET', job, 'reserved', 1)
    place(where, id, wait)
    count('submits_delayed')
    return {'wait', wait, id}
  end
end
local lease = lease_until(a.lease_ms, a.fence)
redis.call('ZADD', key('due', where), lease, id)
expect(where, id, a.lease_ms + 500)
local lost = state == 'submitting'
if not lost then
  move(id, 'queued', 'submitting')
  redis.call('HDEL', job, 'reserved')
  redis.call('HSET', job, 'attempt', (tonumber(f[2] or '') or 0) + 1, 'target', a.target,
    'correlation_id', a.correlation_id)
  redis.call('ZREM', key('deadlines'), 'start|' .. id)
  count('attempts')
end
return {lost and 'lost' or 'claimed', 0, id, int(lease), int(NOW), record(id), redis.call('GET', key('input', id))}

-- operation: accept allow-oom
-- Record that the cloud took an attempt. Fenced by the attempt alone: the answer counts however late it comes.
local a = cjson.decode(ARGV[1])
local job = key('job', a.id)
local f = redis.call('HMGET', job, 'state', 'attempt', 'remote_id', 'endpoint', 'cancel')
if f[3] == a.remote_id and tonumber(f[2] or '') == a.attempt then return {'accepted', -1} end
if (f[1] ~= 'submitting' and f[1] ~= 'unknown') or tonumber(f[2]) ~= a.attempt then
  -- The job has moved on without this remote job: it is an orphan, and the sweeper has it cancelled.
  redis.call('ZADD', key('outbox'), after_ms(0), 'orphan|' .. a.target .. ' ' .. a.remote_id)
  count('orphans')
  return {'orphan', -1}
end
displace('submit:' .. f[4], a.id)
redis.call('HSET', job, 'remote_id', a.remote_id, 'submitted', int(NOW))
move(a.id, f[1], 'waiting')
place('poll:' .. a.target, a.id, a.gap_ms)
tell(a.id, a.event)
show(a.meta)
count('submits')
if f[5] then
  expect('cancel', a.id, 0)
  return {'cancelling', wake(a.target, after_ms(a.gap_ms))}
end
return {'accepted', wake(a.target, after_ms(a.gap_ms))}

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
local lease = lease_until(a.lease_ms, a.fence)
local scores, rows = {}, {}
for i = 1, room do
  scores[#scores + 1] = lease
  scores[#scores + 1] = ids[i]
  rows[i] = {ids[i], record(ids[i])}
end
redis.call('ZADD', where, 'XX', unpack(scores))
redis.call('ZADD', rides, lease, int(lease))
return {int(lease), int(NOW), flight, -1, rows}

-- operation: settle allow-oom
-- Carry out what was decided about claimed jobs. Returns {ms until a poll message is due or -1, words, deliveries}.
--   a = {from, fence, items, target?, last?, hold_ms?}
--   item = {id, old, new, to, in_ms, observed?, retries?, event?, meta?, ending?, keep?, output?, orphan?, message?}
-- `message` asks for the job's envelope, to send the message of its next step.
local a = cjson.decode(ARGV[1])

-- How a job ends that was asked to stop, maybe after it was claimed: there is no new attempt, and no other end than
-- the wanted one but a result.
local function stopping(job, item)
  if item.new == 'completed' or not (item.ending or item.new == 'queued') then return end
  local stop = redis.call('HGET', job, 'stop')
  return stop and cjson.decode(stop)
end

local due = key('due', a.from)
local ids, words, out, keep = {}, {}, {}, {}
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
  if first[2] then ms = wake(a.target, math.max(tonumber(first[2]), NOW)) end
end
return {ms, words, out}

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

-- operation: load no-writes
-- One record as it stands. Returns {now, fields}; without fields where there is none.
local id = ARGV[1]
if redis.call('EXISTS', key('job', id)) == 0 then return {int(NOW)} end
return {int(NOW), record(id)}

-- operation: envelope no-writes
return envelope(ARGV[1])

-- operation: sweep allow-oom
-- What every process looks after, in bounded bites: deadlines, messages that are overdue, records that may go.
-- Returns {messages = [kind, id, payload]..., wakes = [target]...}.
local a = cjson.decode(ARGV[1])
local messages, wakes = {}, {}
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
return {messages, wakes}
