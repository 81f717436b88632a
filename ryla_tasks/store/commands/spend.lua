-- What was spent, and when.

-- operation: spent no-writes
-- What has been spent today, of a = {offset_s, fields}: the day's number, then micro-dollars for each field of its hash.
local a = cjson.decode(ARGV[1])
local day = day_of(a.offset_s)
local answer = {day}
for _, field in ipairs(a.fields) do
  answer[#answer + 1] = tonumber(redis.call('HGET', key('spend', day), field) or '') or 0
end
return answer
