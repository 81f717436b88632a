-- Accepting jobs.

-- operation: create
-- Accept a job: write its record, its input and its message, due to be submitted. Returns {word, id}.
-- The large texts come as they are: to put them into the JSON of the rest would encode and decode them once more. After
-- them come the `others`, so many inputs of fallbacks, and last the message, if it goes out here.
local a, input, message, spec, event, progress = cjson.decode(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local job = key('job', a.id)
if redis.call('EXISTS', job) == 1 then
  -- Somebody may have given a job of his own the id of a cell.
  if a.sheet and redis.call('HGET', job, 'sheet') ~= a.sheet then return {'over', a.id} end
  return {'exists', a.id}
end
if redis.call('EXISTS', key('tomb', a.id)) == 1 then return {'tombstone', a.id} end
if a.sheet and not open_cell(a.sheet, a.cell) then return {'over', a.id} end
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
if a.only then redis.call('HSET', job, 'only', a.only) end
if a.sheet then redis.call('HSET', job, 'sheet', a.sheet, 'cell', a.cell) end
if a.keeps then redis.call('HSET', job, 'keeps', 1) end
if a.unrecorded then redis.call('HSET', job, 'unrecorded', 1) end
tally('created', a.kind .. ' ' .. a.endpoint)
redis.call('SET', key('envelope', a.id), message)
redis.call('ZADD', key('idx', 'all'), at, a.id)
redis.call('ZADD', key('idx', 'state', 'queued'), at, a.id)
redis.call('ZADD', key('idx', 'kind', a.kind), at, a.id)
redis.call('ZADD', key('idx', 'endpoint', a.endpoint), at, a.id)
if a.user ~= '' then redis.call('ZADD', key('idx', 'user', a.user), at, a.id) end
tell(a.id, event)
if a.meta_key then show({key = a.meta_key, value = progress, ttl = a.meta_ttl}) end
if a.deadline_ms then redis.call('ZADD', key('deadlines'), after_ms(a.deadline_ms), a.id) end
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
local others = a.others or 0
if others > 0 then redis.call('RPUSH', key('fallbacks', a.id), unpack(ARGV, 7, 6 + others)) end
if a.cells then start_sheet(a) else place('submit:' .. a.endpoint, a.id, a.delay_ms) end
if a.start_by_ms then redis.call('ZADD', key('deadlines'), after_ms(a.start_by_ms), 'start|' .. a.id) end
-- Where the broker is this database, the message is in its queue in the same moment as the record.
if ARGV[7 + others] then redis.call('LPUSH', ARGV[7 + others], ARGV[8 + others]) end
return {'created', a.id}
