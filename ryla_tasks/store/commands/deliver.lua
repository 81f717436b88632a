-- Jobs whose GPU work is over.

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

-- operation: prolong allow-oom
-- Hold a claim for longer. Returns its new fence, or '' where the lease was lost.
local a = cjson.decode(ARGV[1])
if tonumber(redis.call('ZSCORE', key('due', 'deliver'), a.id) or '') ~= tonumber(a.fence) then return '' end
local lease = lease_until(a.lease_ms, a.new_fence)
redis.call('ZADD', key('due', 'deliver'), lease, a.id)
expect('deliver', a.id, a.lease_ms + 500)
return int(lease)

-- operation: release allow-oom
-- Give a claim back: the job is due again in `ms`.
local a = cjson.decode(ARGV[1])
if tonumber(redis.call('ZSCORE', key('due', a.from), a.id) or '') ~= tonumber(a.fence) then return 0 end
redis.call('ZADD', key('due', a.from), after_ms(a.ms), a.id)
expect(a.from, a.id, a.ms + RESEND_FIRST_MS)
return 1

-- operation: unheard allow-oom
-- A receiver of the end has failed: the claim is given back for `ms`, doubled with each time. Returns how often that has
-- happened; with the last one allowed (`most`) the claim is kept, and where it was lost the answer is 0.
local a = cjson.decode(ARGV[1])
if tonumber(redis.call('ZSCORE', key('due', 'deliver'), a.id) or '') ~= tonumber(a.fence) then return 0 end
local tries = redis.call('HINCRBY', key('job', a.id), 'unheard', 1)
if tries >= a.most then return tries end
local ms = a.ms * 2 ^ (tries - 1)
redis.call('ZADD', key('due', 'deliver'), after_ms(ms), a.id)
expect('deliver', a.id, ms)
return tries

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
