-- What `ryla metrics` tells.

-- operation: scrape no-writes
-- The fleet as it stands, in one look. a = {metrics, states, targets, endpoints, offset_s, workers_s}: names of metric:NAME,
-- of states, and of the targets and endpoints in the settings; those where something is due come by themselves. Returns
-- {now, kept, workers, counters, calls, metrics, states, targets, endpoints, deliver}, where hashes are names and values,
-- and what waits at a place is how many there are, and for how many microseconds the first has been overdue.
local a = cjson.decode(ARGV[1])

-- A lease that goes on is nobody's delay; one that has ended is, since then.
local function waits_at(where)
  local due = key('due', where)
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  return redis.call('ZCARD', due), int(first[2] and math.max(0, NOW - tonumber(first[2])) or 0)
end

local function with_those_of(names, more)
  local found, seen = {}, {}
  for _, list in ipairs({names, redis.call('SMEMBERS', key(more))}) do
    for _, name in ipairs(list) do
      if not seen[name] then found[#found + 1] = name end
      seen[name] = true
    end
  end
  return found
end

local metrics, states, targets, endpoints = {}, {}, {}, {}
for i, name in ipairs(a.metrics) do metrics[i] = redis.call('HGETALL', key('metric', name)) end
for i, state in ipairs(a.states) do states[i] = redis.call('ZCARD', key('idx', 'state', state)) end
for i, target in ipairs(with_those_of(a.targets, 'targets')) do
  local flight, overdue = waits_at('poll:' .. target)
  local health = redis.call('GET', key('health', target)) or ''
  targets[i] = {target, flight, overdue, redis.call('EXISTS', key('breaker', target)), health}
end
for i, endpoint in ipairs(with_those_of(a.endpoints, 'lines')) do
  local line, overdue = waits_at('submit:' .. endpoint)
  local spent = redis.call('HGET', key('spend', day_of(a.offset_s)), 'endpoint:' .. endpoint) or 0
  endpoints[i] = {endpoint, line, overdue, spent}
end
return {int(NOW), redis.call('ZCARD', key('idx', 'all')),
  redis.call('ZCOUNT', key('workers'), int(NOW - a.workers_s * MICRO), '+inf'),
  redis.call('HGETALL', key('counters')), redis.call('HGETALL', key('provider_calls')), metrics, states, targets, endpoints,
  {waits_at('deliver')}}
