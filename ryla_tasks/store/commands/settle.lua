-- What was decided about claimed jobs.

-- operation: settle allow-oom
-- Carry out what was decided about claimed jobs. Returns {ms until a poll message is due or -1, words, deliveries, 1 where the
-- target's breaker is open, what `reckon` told}.
--   a = {from, fence, items, target?, last?, hold_ms?}
--   item = {id, old, new, to, in_ms, observed?, retries?, fallback?, withdraw?, unanswered?, event?, meta?, ending?, keep?,
--     output?, orphan?, message?}
--   fallback = {kind, taken, input?, spec?, only?}
-- `taken` are all fallbacks so far. Where the new one is another input, `input` is its place among the job's other inputs,
-- and `spec` and `only` go with it.
-- `message` asks for the job's envelope, to send the message of its next step; `sample` is a target and what to add to
-- its history, then the job's kind and endpoint; `used` is what of it the ledger wants besides; `outcome` is a target, a
-- call and 1 where it went wrong, for the target's breaker; `money` is for
-- `reckon`; `cell` is the sheet and the name of a cell, and its percentage.
local a = cjson.decode(ARGV[1])

-- How a job ends that was asked to stop, maybe after it was claimed: there is no new attempt, no waiting for what came
-- of a submit, and no other end than the wanted one but a result.
local function stopping(job, item)
  if item.new == 'completed' or not (item.ending or item.new == 'queued' or item.new == 'unknown') then return end
  local stop = redis.call('HGET', job, 'stop')
  return stop and cjson.decode(stop)
end

-- Something takes the place of what has failed: another target for the same input, or another input.
local function fall_back(id, fallback)
  local job = key('job', id)
  redis.call('HSET', job, 'fallbacks', fallback.taken)
  count('fallbacks')
  if fallback.kind == 'endpoint' then count('failovers') end
  if not fallback.input then return end
  redis.call('HSET', job, 'spec', fallback.spec, 'only', fallback.only)
  -- Where it is gone, no input is better than the one that has failed.
  redis.call('SET', key('input', id), redis.call('LINDEX', key('fallbacks', id), fallback.input) or '')
end

local due = key('due', a.from)
local ids, words, out, keep, told, open = {}, {}, {}, {}, {}, 0
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
    if item.sample then
      local stats = key('stats', item.sample[1])
      redis.call('LPUSH', stats, item.sample[2])
      redis.call('LTRIM', stats, 0, SAMPLES_KEPT - 1)
      measure_attempt(unpack(item.sample))
      use_attempt(id, item.sample[2], item.used)
    end
    if item.outcome then open = math.max(open, note_outcome(item.outcome[1], item.outcome[2], item.outcome[3], id)) end
    if item.money then reckon(id, item.money, told) end
    local stop = stopping(job, item)
    if item.observed then redis.call('HSET', job, 'observed', item.observed) end
    if stop and not item.ending then
      if item.new == 'unknown' then redis.call('HSET', job, 'doubt', 1) end
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
      if item.new == 'queued' then
        redis.call('HSET', job, 'remote_id', '', 'submitted', 0)
        unexpect('cancel', id)
      end
      if item.retries then
        redis.call('HSET', job, 'retries', item.retries)
        -- After a fallback they are counted anew: that is no retry.
        if item.retries > 0 then
          count('retries')
          count(item.old == 'submitting' and 'submit_retries' or 'job_retries')
        end
      end
      if item.fallback then fall_back(id, item.fallback) end
      if item.withdraw == true then expect('cancel', id, RESEND_FIRST_MS) end
      if item.withdraw == false and redis.call('HEXISTS', job, 'cancel') == 0 then unexpect('cancel', id) end
      if item.unanswered then
        redis.call('HSET', job, 'unanswered', item.unanswered)
        if item.money then redis.call('HSET', job, 'assumed', item.money.spent) end
        count('resubmits')
      end
      if item.new == 'unknown' then count('unknowns') end
      if endpoint_of(a.from) then redis.call('ZREM', key('calls', redis.call('HGET', job, 'target') or ''), id) end
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
      if item.cell then cell_is(item.cell[1], item.cell[2], 'open ' .. item.cell[3], out) end
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
  local soonest = redis.call('ZCARD', due) > MANY_IN_FLIGHT and after_ms(RIDE_PAUSE_MS) or NOW
  if first[2] then ms = wake(a.target, math.max(tonumber(first[2]), soonest)) end
end
return {ms, words, out, open, told}
