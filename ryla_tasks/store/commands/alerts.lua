-- Telling the operator: alerts are kept in one stream, and one process of the fleet sends them on.

-- operation: alert allow-oom
-- Tell the operator, once: while it goes on, and for `quiet_ms` after, the same is not told again. Returns 1 where told.
local a = cjson.decode(ARGV[1])
return alert(a.what, a.quiet_ms, ARGV[2])

-- operation: alerts_turn allow-oom
-- Take, or keep, the right to send alerts on. Returns {1 where `token` has it, ms now, service, state, ...}.
local a = cjson.decode(ARGV[1])
local sender = key('alerts_sender')
if (redis.call('GET', sender) or a.token) ~= a.token then return {0, 0} end
redis.call('SET', sender, a.token, 'PX', a.lease_ms)
local answer = redis.call('HGETALL', key('alerts_sent'))
table.insert(answer, 1, math.floor(NOW / 1000))
table.insert(answer, 1, 1)
return answer

-- operation: alerts_noted allow-oom
-- Keep how far a service has been told, if the right to send is still `token`'s. Returns 1 where it is.
local a = cjson.decode(ARGV[1])
if redis.call('GET', key('alerts_sender')) ~= a.token then return 0 end
redis.call('SET', key('alerts_sender'), a.token, 'PX', a.lease_ms)
redis.call('HSET', key('alerts_sent'), a.service, ARGV[2])
return 1

-- operation: alerts_leave allow-oom
-- Give up the right to send.
if redis.call('GET', key('alerts_sender')) == ARGV[1] then redis.call('DEL', key('alerts_sender')) end
return 1
