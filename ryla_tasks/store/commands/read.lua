-- Looking without touching.

-- operation: load no-writes
-- One record as it stands. Returns {now, fields}; without fields where there is none.
local id = ARGV[1]
if redis.call('EXISTS', key('job', id)) == 0 then return {int(NOW)} end
return {int(NOW), record(id)}

-- operation: envelope no-writes
return envelope(ARGV[1])
