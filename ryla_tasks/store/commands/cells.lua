-- Sheets, put after common.lua: jobs without a remote job of their own, made of cells, which are jobs like any other.
--
-- `cells:ID` of a sheet says how each cell stands, by name: `new` (not made yet), `open PERCENT`, `kept` (taken over from
-- an earlier sheet), the state that its job has ended in, or `gone WHY` (there is no such job). The cell's job has id
-- SHEET-NAME. A sheet goes from the place `spread`, where a worker makes its cells, to `deliver`, in the script that ends
-- its last cell. Nobody polls it.

-- A sheet under way is looked over this often, for a cell whose record somebody has deleted.
local LOOK_OVER_MS = 60000

local function cell_id(sheet, name) return sheet .. '-' .. name end

local function is_open(word) return word == 'new' or string.sub(word, 1, 4) == 'open' end

-- Tell how a sheet stands, to those who follow it and to those who ask Celery.
local function tell_sheet(id, kind, phase, percent, message)
  local f = redis.call('HMGET', key('job', id), 'endpoint', 'began', 'expected_s', 'meta_key', 'meta_ttl', 'attempt')
  local ran = f[2] and (NOW - f[2]) / 1000000 or 0
  local eta = percent >= 1 and ran * (100 - percent) / percent or math.max((tonumber(f[3] or '') or 15) - ran, 1)
  local told = {phase = phase, percent = percent, message = message, endpoint = f[1], attempt = tonumber(f[6] or '') or 1,
    eta_s = phase == 'collecting' and 1 or math.floor(eta * 10 + 0.5) / 10}
  told.type = kind
  tell(id, cjson.encode(told))
  if not f[4] then return end
  told.type, told.job_id = nil, id
  local name = cjson.encode(id)
  show({key = f[4], ttl = f[5], value = '{"status": "PROGRESS", "result": ' .. cjson.encode(told)
    .. ', "traceback": null, "children": [], "date_done": null, "task_id": ' .. name .. '}'})
end

-- Look how a sheet stands after something has happened to its cells: tell the progress, and hand it over to be delivered
-- when no cell is open any more.
local function sheet_moves(id, out)
  local job = key('job', id)
  local f = redis.call('HMGET', job, 'state', 'observed', 'cancel')
  if f[1] ~= 'queued' and f[1] ~= 'running' then return end
  local all, open, done, lost, sum = 0, 0, 0, 0, 0
  for i, word in ipairs(redis.call('HVALS', key('cells', id))) do
    all = i
    if is_open(word) then
      open = open + 1
      sum = sum + (tonumber(string.match(word, '^open (%S+)') or '') or 0)
    else
      if word == 'kept' or word == 'completed' then done = done + 1 else lost = lost + 1 end
      sum = sum + 100
    end
  end
  local seen = cjson.decode((f[2] and f[2] ~= '') and f[2] or '{}')
  local before = seen.percent or 0
  local percent = math.max(before, math.min(99.9, math.floor(sum * 10 / math.max(all, 1)) / 10))
  local message = int(done) .. ' of ' .. int(all) .. ' done'
  if lost > 0 then message = message .. ', ' .. int(lost) .. ' failed' end
  if f[3] then message = 'Cancelling' end
  if open > 0 and percent - before < 1 and message == seen.message then return end
  seen.percent, seen.message = percent, message
  seen.running_since = seen.running_since or NOW / 1000000
  redis.call('HSET', job, 'observed', cjson.encode(seen))
  if open > 0 then return tell_sheet(id, 'progress', f[1], percent, message) end
  move(id, f[1], 'collecting')
  displace('spread', id)
  unexpect('sheet', id)
  unexpect('cancel', id)
  place('deliver', id, 0)
  tell_sheet(id, 'state', 'collecting', percent, message)
  out[#out + 1] = id
  out[#out + 1] = envelope(id)
end

-- A cell is as far as `word` says.
local function cell_is(sheet, name, word, out)
  local cells = key('cells', sheet)
  local before = redis.call('HGET', cells, name)
  if not before or not is_open(before) then return end
  redis.call('HSET', cells, name, word)
  sheet_moves(sheet, out)
end

cell_over = function(id, to, out)
  local f = redis.call('HMGET', key('job', id), 'sheet', 'cell')
  if f[1] then cell_is(f[1], f[2], to, out) end
end

-- Whether a cell may be made now; then it is open.
local function open_cell(sheet, name)
  local job, cells = key('job', sheet), key('cells', sheet)
  if redis.call('HGET', cells, name) ~= 'new' or redis.call('HEXISTS', job, 'cancel') == 1 then return false end
  redis.call('HSET', cells, name, 'open 0')
  return true
end

-- A new sheet: its cells, each with its word, and what tells of it has to know.
local function start_sheet(a)
  for _, pair in ipairs(a.cells) do redis.call('HSET', key('cells', a.id), pair[1], pair[2]) end
  local job = key('job', a.id)
  redis.call('HSET', job, 'sheet_of', #a.cells, 'expected_s', a.expected_s)
  if a.meta_key then redis.call('HSET', job, 'meta_key', a.meta_key, 'meta_ttl', a.meta_ttl) end
  place('spread', a.id, a.delay_ms)
end

-- Stop a sheet: all its cells, and with them the sheet, as soon as the last of them has stopped. One that no worker has
-- begun with ends at once.
cancel_sheet = function(id, state, reason, ending, to, event)
  local job, cells = key('job', id), key('cells', id)
  local words, out, begun = redis.call('HGETALL', cells), {}, false
  for i = 2, #words, 2 do begun = begun or string.sub(words[i], 1, 4) == 'open' end
  if reason == 'expired' and state ~= 'queued' then return 'over', -1, out end
  if state == 'queued' and not begun then
    if reason ~= 'expired' then redis.call('HSET', job, 'cancel', reason) end
    displace('spread', id)
    return 'ended', -1, finish(id, state, to, ending, nil, event, out)
  end
  ask_to_stop(job, reason, ending, to, event)
  -- A cell that was revoked by itself would be told to Celery as revoked; nobody asks Celery for a cell.
  local why = reason == 'revoked' and 'user' or reason
  local remote = false
  for i = 1, #words, 2 do
    if words[i + 1] == 'new' then redis.call('HSET', cells, words[i], 'cancelled') end
  end
  for i = 1, #words, 2 do
    if string.sub(words[i + 1], 1, 4) == 'open' then
      local word, _, more = cancel(cell_id(id, words[i]), why, ending, to, event)
      for _, part in ipairs(more) do out[#out + 1] = part end
      remote = remote or word == 'remote'
      if word == 'gone' then redis.call('HSET', cells, words[i], 'gone') end
    end
  end
  sheet_moves(id, out)
  return remote and 'remote' or 'asked', -1, out
end

-- Look over a sheet under way: a cell without a record will not end by itself.
local function look_over(id, out)
  local cells = key('cells', id)
  local words = redis.call('HGETALL', cells)
  local placed = redis.call('ZSCORE', key('due', 'spread'), id)
  for i = 1, #words, 2 do
    local name, word = words[i], words[i + 1]
    if string.sub(word, 1, 4) == 'open' then
      local state = redis.call('HMGET', key('job', cell_id(id, name)), 'state', 'ending')
      if not state[1] then redis.call('HSET', cells, name, 'gone') end
      if state[2] then redis.call('HSET', cells, name, state[1]) end
    elseif word == 'new' and not placed then
      redis.call('HSET', cells, name, 'gone')
    end
  end
  sheet_moves(id, out)
  local state = redis.call('HGET', key('job', id), 'state')
  if state == 'queued' or state == 'running' then expect('sheet', id, LOOK_OVER_MS) else unexpect('sheet', id) end
end
