-- Asking after jobs at their targets, and the reasons to ask sooner or later.

-- operation: claim_polls allow-oom
-- Take up to `most` jobs that are due at a target for one ride. Returns {fence, now, in flight, ms, rows}. With `spread`
-- a message for another process is wanted at once (ms) where another such ride is due and the limits allow it.
local a = cjson.decode(ARGV[1])
local where = key('due', 'poll:' .. a.target)
local rides = key('rides', a.target)
local held = tonumber(redis.call('HGET', key('wake'), a.target) or '')
if held and held <= NOW + DUE_SLACK_US then redis.call('HDEL', key('wake'), a.target) end
local flight = redis.call('ZCARD', where)
redis.call('ZREMRANGEBYSCORE', rides, '-inf', int(NOW))
local found = redis.call('ZRANGE', where, '-inf', int(NOW + DUE_SLACK_US), 'BYSCORE', 'LIMIT', 0, a.most, 'WITHSCORES')
local ids, due = {}, {}
for i = 1, #found, 2 do
  ids[#ids + 1] = found[i]
  due[#due + 1] = tonumber(found[i + 1])
end
if #ids == 0 then
  -- Somebody else has them, or the message came before its time (another host's clock). The second is not sent again,
  -- or two hosts would pass it to and fro: its own time still stands in `wake`.
  local first = redis.call('ZRANGE', where, 0, 0, 'WITHSCORES')
  return {'', int(NOW), flight, first[2] and wake(a.target, tonumber(first[2])) or -1, {}}
end
local room, wait = 0, 250
if redis.call('ZCARD', rides) < a.most_rides then room, wait = grant(a.target, 'status', #ids, a.per_s, a.burst) end
if room == 0 then
  measure_limit(a.target, 'status', wait)
  -- At a busy target what the limits allow meanwhile goes by one message.
  if flight > MANY_IN_FLIGHT then wait = math.max(wait, RIDE_PAUSE_MS) end
  return {'', int(NOW), flight, wake(a.target, after_ms(wait)), {}}
end
-- The first in line are the latest: how many of those taken came too late, and how many very late.
local behind = math.min(room, redis.call('ZCOUNT', where, '-inf', int(NOW - OVERDUE_US)))
if behind > 0 then
  count('recovered_polls', behind)
  local late = math.min(room, redis.call('ZCOUNT', where, '-inf', int(NOW - LATE_US)))
  if late > 0 then count('late_polls', late) end
end
measure_lateness(a.target, {unpack(due, 1, room)})
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
local ms = -1
if a.spread and redis.call('ZCOUNT', where, '-inf', int(NOW)) >= a.most then
  local each = 1000000 / a.per_s
  if meter(a.target, 'status') + each * a.most <= NOW + a.burst * each then ms = wake(a.target, NOW) end
end
return {int(lease), int(NOW), flight, ms, rows}

-- operation: watch allow-oom
-- Somebody follows the job for the next ms: it is polled at once, and more often. Returns {ms until a poll message is
-- due or -1, target}.
local a = cjson.decode(ARGV[1])
local function watch(id)
  local f = redis.call('HMGET', key('job', id), 'state', 'target', 'watched')
  if not OPEN[f[1] or ''] then return -1, '' end
  redis.call('HSET', key('job', id), 'watched', int(after_ms(a.ms)))
  if not POLLED[f[1]] or not f[2] or (tonumber(f[3] or '') or 0) > NOW then return -1, '' end
  return nudge(id, f[2]), f[2]
end
local ms, target = watch(a.id)
-- Who follows a sheet follows its cells. They are mostly at one target; the message of another comes in its time.
for _, name in ipairs(redis.call('HKEYS', key('cells', a.id))) do
  local cell_ms, cell_target = watch(cell_id(a.id, name))
  if cell_ms >= 0 then ms, target = cell_ms, cell_target end
end
return {ms, target}

-- operation: nudge allow-oom
-- Somebody has a reason to think that a job has news. Takes no lease. Returns ms until a poll message is due or -1.
local f = redis.call('HMGET', key('job', ARGV[1]), 'state', 'target')
if not POLLED[f[1] or ''] or not f[2] then return {-1, ''} end
return {nudge(ARGV[1], f[2]), f[2]}

-- operation: hold allow-oom
-- A 429: no call of this kind to the target for a while.
local a = cjson.decode(ARGV[1])
hold(a.target, a.op, a.ms)
return 1
