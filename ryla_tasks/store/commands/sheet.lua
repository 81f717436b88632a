-- Making a sheet's cells (see cells.lua), and looking at them.

-- operation: claim_spread allow-oom
-- Take a sheet whose cells are to be made. a = {id, lease_ms, fence}. Returns {word, ms} or {'claimed', 0, id, lease, now,
-- record, input, cells}, where `cells` are names and words.
local a = cjson.decode(ARGV[1])
local due, job = key('due', 'spread'), key('job', a.id)
local score = tonumber(redis.call('ZSCORE', due, a.id) or '')
if not score then return {redis.call('EXISTS', job) == 1 and 'moved' or 'gone', 0} end
if score > NOW + DUE_SLACK_US then
  return {is_lease(score) and 'held' or 'early', math.ceil((score - NOW) / 1000)}
end
local lease = lease_until(a.lease_ms, a.fence)
redis.call('ZADD', due, lease, a.id)
expect('spread', a.id, a.lease_ms + 500)
if redis.call('HGET', job, 'state') == 'queued' then
  move(a.id, 'queued', 'running')
  redis.call('ZREM', key('deadlines'), 'start|' .. a.id)
  redis.call('HSET', job, 'began', int(NOW), 'attempt', 1,
    'observed', cjson.encode({running_since = NOW / 1000000}))
  expect('sheet', a.id, LOOK_OVER_MS)
  tell_sheet(a.id, 'state', 'running', 0, 'Starting')
end
return {'claimed', 0, a.id, int(lease), int(NOW), record(a.id), redis.call('GET', key('input', a.id)) or '',
  redis.call('HGETALL', key('cells', a.id))}

-- operation: spread_done allow-oom
-- All cells of a sheet are made that can be made. a = {id, fence, lost = [[name, why]...]}. Returns {1 or 0, deliveries}.
local a, out = cjson.decode(ARGV[1]), {}
if tonumber(redis.call('ZSCORE', key('due', 'spread'), a.id) or '') ~= tonumber(a.fence) then
  count('fences_lost')
  return {0, out}
end
displace('spread', a.id)
for _, pair in ipairs(a.lost) do cell_is(a.id, pair[1], 'gone ' .. pair[2], out) end
look_over(a.id, out)
return {1, out}

-- operation: cells no-writes
-- How a sheet's cells stand: {input, {name, word, record or nothing}...}.
local id, rows = ARGV[1], {}
local words = redis.call('HGETALL', key('cells', id))
for i = 1, #words, 2 do
  local other = cell_id(id, words[i])
  rows[#rows + 1] = {words[i], words[i + 1], redis.call('EXISTS', key('job', other)) == 1 and record(other) or {}}
end
return {redis.call('GET', key('input', id)) or '', rows}
