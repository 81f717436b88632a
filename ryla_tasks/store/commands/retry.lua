-- Making jobs again that have ended.

-- operation: kept no-writes
-- An ended job, and what is kept to make another one like it. Returns {now, record, input or '', 1 where nobody knows
-- whether its last submit was taken, the other inputs}; without a record where there is none.
local id = ARGV[1]
local job = key('job', id)
if redis.call('EXISTS', job) == 0 then return {int(NOW)} end
return {int(NOW), record(id), redis.call('GET', key('input', id)) or '', redis.call('HEXISTS', job, 'doubt'),
  redis.call('LRANGE', key('fallbacks', id), 0, -1)}
