-- Calls to a target that are made one at a time, outside of rides and submits: within the same limits of the fleet.

-- operation: take_call allow-oom
-- Take one call. Returns the pass that `give_call` gives back, or nil where there may be none now: what is wanted is
-- looked at again when there may be: what is `patient` behind all that was turned away before, and so that something is
-- left for what is not.
local a = cjson.decode(ARGV[1])
local busy = key('busy', a.target, a.op)
redis.call('ZREMRANGEBYSCORE', busy, '-inf', int(NOW))
local room, wait = 0, CALLS_FULL_MS
if redis.call('ZCARD', busy) < a.at_once then room, wait = grant(a.target, a.op, 1, a.per_s, a.burst) end
if room == 0 then measure_limit(a.target, a.op, math.max(wait, CALLS_FULL_MS)) end
if room > 0 then
  redis.call('ZADD', busy, int(after_ms(a.lease_ms)), a.pass)
  return a.pass
end
local later = NOW + math.max(wait, CALLS_FULL_MS) * 1000
if a.patient then
  later = math.max(meter(a.target, a.op .. '-later'), later) + 1250000 / a.per_s
  set_meter(a.target, a.op .. '-later', later)
end
redis.call('ZADD', key('outbox'), 'XX', int(later), a.wanted)
return nil

-- operation: give_call allow-oom
local a = cjson.decode(ARGV[1])
return redis.call('ZREM', key('busy', a.target, a.op), a.pass)

-- operation: spend_call allow-oom
-- Count a call that is made in any case: the next ones wait for it.
local a = cjson.decode(ARGV[1])
set_meter(a.target, a.op, math.max(meter(a.target, a.op), NOW) + 1000000 / a.per_s)
return 1
