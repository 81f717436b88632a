-- What every worker process looks after.

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

-- Who sweeps is a worker that lives. Those of the last minute are kept.
if a.worker then
  redis.call('ZADD', key('workers'), int(NOW), a.worker)
  redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', int(NOW - 60 * MICRO))
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
  elseif kind == 'sheet' then
    local out = {}
    look_over(id, out)
    send_all(out)
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
      local endpoint = redis.call('HGET', job, 'endpoint')
      local event = {type = 'undelivered', job_id = id, endpoint = endpoint}
      alert('undelivered:' .. endpoint, a.alert_quiet_ms, cjson.encode(event))
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
local id, job = a.id, key('job', a.id)
local f = redis.call('HMGET', job, 'state', 'endpoint', 'target', 'alias_of', 'ending', 'sheet_of', 'sheet')
local state = f[1]
if not state then return 'fine' end
if f[5] then
  local at = tonumber(redis.call('ZSCORE', key('expiry'), id) or '')
  if at and at <= NOW then
    if not a.dry then drop(id) end
    return 'expired'
  end
  if at or redis.call('ZSCORE', key('due', 'deliver'), id) then return 'fine' end
  if f[7] and redis.call('EXISTS', key('job', f[7])) == 1 then return 'fine' end
  if not a.dry then retire(id) end
  return 'forgotten'
end
if f[4] then
  local twin = redis.call('HMGET', key('job', f[4]), 'state', 'ending')
  if twin[1] and not twin[2] and redis.call('SISMEMBER', key('aliases', f[4]), id) == 1 then return 'fine' end
  if a.dry then return 'astray' end
  if twin[2] then
    finish(id, state, twin[1], twin[2], nil, end_event(f[4], twin[1]), {})
  elseif twin[1] then
    redis.call('SADD', key('aliases', f[4]), id)
  else
    -- The job whose end it was to have is gone. It has no input, which is how it ends when its turn comes.
    redis.call('HDEL', job, 'alias_of')
    place('submit:' .. f[2], id, 0)
  end
  return 'astray'
end
if f[6] and state ~= 'collecting' then
  if redis.call('ZSCORE', key('due', 'spread'), id) or redis.call('ZSCORE', key('outbox'), 'sheet|' .. id) then
    return 'fine'
  end
  if not a.dry and state == 'queued' then place('spread', id, 0) end
  if not a.dry and state == 'running' then expect('sheet', id, 0) end
  return 'astray'
end
local where = state == 'collecting' and 'deliver' or POLLED[state] and 'poll:' .. f[3] or 'submit:' .. f[2]
if redis.call('ZSCORE', key('due', where), id) then return 'fine' end
if not a.dry then place(where, id, 0) end
return 'astray'
