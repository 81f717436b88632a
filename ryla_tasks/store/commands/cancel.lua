-- Stopping jobs, and remote jobs that no job claims.

-- operation: cancel allow-oom
-- Ask a job to stop, for a reason; `to` and `ending` say how it ends if no GPU has it.
local a = cjson.decode(ARGV[1])
local word, ms, out = cancel(a.id, a.reason, a.ending, a.to, a.event)
return {word, ms, out}

-- operation: cancel_sent allow-oom
-- The cloud was told to cancel: look at the job at once. It is told again, with growing gaps, until the job has
-- ended. Returns {ms until a poll message is due or -1, target}.
local id = ARGV[1]
local f = redis.call('HMGET', key('job', id), 'state', 'target')
if not POLLED[f[1] or ''] or not f[2] then
  unexpect('cancel', id)
  return {-1, ''}
end
return {nudge(id, f[2]), f[2]}

-- operation: orphan_done allow-oom
redis.call('ZREM', key('outbox'), 'orphan|' .. ARGV[1])
return 1
