-- Looking without touching.

-- operation: load no-writes
-- One record as it stands. Returns {now, fields}; without fields where there is none.
local id = ARGV[1]
if redis.call('EXISTS', key('job', id)) == 0 then return {int(NOW)} end
return {int(NOW), record(id)}

-- operation: envelope no-writes
return envelope(ARGV[1])

-- operation: in_line no-writes
-- Jobs that are due to be submitted at an endpoint, from a place on. Returns {now, rows}.
local a = cjson.decode(ARGV[1])
local rows = {}
for _, id in ipairs(redis.call('ZRANGE', key('due', 'submit:' .. a.endpoint), a.start, a.start + a.most - 1)) do
  local fields = record(id)
  if fields[1] then rows[#rows + 1] = {id, fields} end
end
return {int(NOW), rows}
