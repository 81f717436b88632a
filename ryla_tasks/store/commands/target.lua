-- What the fleet knows of its targets.

-- operation: breaker no-writes
-- A target's breaker and the outcomes behind it: {now, open, until, pause_ms, why}, then how each call of its probe went,
-- then the latest outcomes of each call.
local answer = redis.call('HMGET', key('breaker', ARGV[1]), 'open', 'until', 'pause_ms', 'why', unpack(CALLS))
table.insert(answer, 1, int(NOW))
for _, call in ipairs(CALLS) do answer[#answer + 1] = redis.call('LRANGE', key('outcomes', ARGV[1], call), 0, -1) end
return answer

-- operation: change_breaker allow-oom
-- Open a breaker, let its pause grow, or (without `until`) close it. Returns 1 where it was as the caller thought.
local a = cjson.decode(ARGV[1])
local breaker = key('breaker', a.target)
if (tonumber(redis.call('HGET', breaker, 'until') or '') or 0) ~= a.was then return 0 end
if a['until'] then
  if redis.call('HSETNX', breaker, 'open', int(NOW)) == 1 then count('breaker_opened') end
  redis.call('HSET', breaker, 'until', int(a['until']), 'pause_ms', a.pause_ms, 'why', a.why)
  redis.call('HDEL', breaker, 'probe', unpack(CALLS))
else
  redis.call('DEL', breaker)
  for _, call in ipairs(CALLS) do redis.call('DEL', key('outcomes', a.target, call)) end
  count('breaker_closed')
end
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

-- operation: add_calls allow-oom
-- Calls that a process has made since it told the last time, by "TARGET OPERATION HOW".
for name, n in pairs(cjson.decode(ARGV[1])) do redis.call('HINCRBY', key('provider_calls'), name, n) end
return 1
