-- What is counted for `ryla metrics` as it happens, put after common.lua. `BUCKETS` stands before it, made from buckets.py.
--
-- metric:NAME is a hash from labels, with spaces between, to a whole number. That of a histogram has behind the labels
-- the upper bound of a bucket, or `sum`: microseconds in all. It is counted in the very script that carries out what is
-- counted, behind its fence, so that what comes twice counts once.

local MICRO = 1000000

local function tally(name, labels, n) redis.call('HINCRBY', key('metric', name), labels, n or 1) end

local function bucket_of(name, seconds)
  for _, bound in ipairs(BUCKETS[name]) do
    if seconds <= tonumber(bound) then return bound end
  end
  return '+Inf'
end

local function measure(name, labels, seconds)
  tally(name, labels .. ' ' .. bucket_of(name, seconds))
  tally(name, labels .. ' sum', int(math.max(0, seconds) * MICRO))
end

-- A limit of the whole fleet has put off a call by so many milliseconds.
local function measure_limit(target, op, ms) measure('limiter_wait', target .. ' ' .. op, ms / 1000) end

-- How late the jobs of a ride are, by the times at which they were due: a command for each bucket, not for each job.
local function measure_lateness(target, due)
  local late, sum = {}, 0
  for _, at in ipairs(due) do
    local seconds = math.max(0, NOW - at) / MICRO
    local bucket = bucket_of('poll_lateness', seconds)
    late[bucket] = (late[bucket] or 0) + 1
    sum = sum + seconds
  end
  for bucket, n in pairs(late) do tally('poll_lateness', target .. ' ' .. bucket, n) end
  tally('poll_lateness', target .. ' sum', int(sum * MICRO))
end

-- An attempt at the cloud is over. `sample` is a `Sample` as JSON.
local function measure_attempt(target, sample, kind, endpoint)
  local s = cjson.decode(sample)
  local outcome, cold, delay_s, run_s = s[2], s[3] == 1, s[4], s[5]
  local labels = kind .. ' ' .. endpoint .. ' ' .. target
  tally('attempts', labels .. ' ' .. outcome .. ' ' .. (cold and 'yes' or 'no'))
  if delay_s ~= cjson.null then measure(cold and 'cold_start' or 'queue_wait', labels, delay_s) end
  if run_s ~= cjson.null then measure('run', labels, run_s) end
end

-- The stable word for why a job has no result: the first `code` in its ending, which stands before all details. It is not
-- decoded: half characters in a GPU worker's words cannot be, and a result may be long. In a text its quotes are escaped.
local function code_of(to, ending)
  return to == 'completed' and 'none' or string.match(ending, '"code": ?"([%w_-]+)"') or 'other'
end

measure_end = function(id, to, ending)
  local f = redis.call('HMGET', key('job', id), 'kind', 'endpoint', 'created', 'paid', 'retries', 'cancel')
  local labels = f[1] .. ' ' .. f[2]
  tally('ended', labels .. ' ' .. to .. ' ' .. code_of(to, ending))
  if to == 'completed' then measure('job', labels, (NOW - f[3]) / MICRO) end
  if (tonumber(f[4] or '') or 0) > 0 then tally('cost', labels, f[4]) end
  local failed = (to == 'failed' or to == 'timed_out') and not f[6]
  if failed and (tonumber(f[5] or '') or 0) > 0 then tally('exhausted', labels) end
end
