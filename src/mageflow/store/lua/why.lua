--[[ What a signature waits on: the first that applies of mark, run, row, slot, member, open gate, start. Changes nothing.

ARGV[3] id
Returns false if there is no such record, {} if it has ended, else {kind, on, since in ms}: `on` is an id, a worker, or the
name of a row. {'nothing', ...}: it is stalled, which must not be.
]]
local id = ARGV[3]
local r = rec(id)
if not r then return false end
if ended(r, id) then return {} end
local container = r.c and rec(r.c)

-- Whether a member that was not started by itself is among those that its swarm's run or close made ready.
local function released()
  local own, place = rec(r.c), call('LPOS', P .. 'w:' .. r.c, id, 'MAXLEN', 100000)
  if own.own ~= '1' then return false end
  if not place then return true end
  for _, entry in ipairs(call('LRANGE', P .. 'q:' .. r.c, 0, 999)) do
    local count = string.match(entry, '^%*(%d+)$')
    if count then place = place - tonumber(count) end
    if place < 0 then return true end
  end
  return false
end

-- The first member that has not ended; those before it in a chain have.
local function current_member()
  local low, high = 0, num(r, 'nm') - 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = rec(call('LINDEX', P .. 'm:' .. id, middle))
    if member and ENDED[member.st] then low = middle + 1 else high = middle end
  end
  return call('LINDEX', P .. 'm:' .. id, low)
end

local function of_active_container()
  if r.k == 'c' then return { 'member', current_member(), r.t1 } end
  local slots = call('SRANDMEMBER', P .. 'l:' .. id, 1)
  if slots[1] then return { 'member', (string.gsub(slots[1], '~.*$', '')), r.ac or r.t1 } end
  for _, kind in ipairs({ 'r', 'c', 'o' }) do
    if call('ZSCORE', P .. 'out', '!' .. kind .. ':' .. id) then return { 'row', '!' .. kind .. ':' .. id, r.ac or r.t1 } end
  end
  if r.wc or num(r, 'na') > 0 then return { 'member', current_member(), r.t1 } end
  if r.cl ~= '1' then return { 'open gate', id, r.ac or r.t1 } end
  if r.own == '0' and call('LLEN', P .. 'w:' .. id) > 0 then return { 'start', id, r.t1 } end
end

local function of_pending()
  if not r.c then
    if num(r, 'rf') > 0 and not r.rd then return { 'start', 'firing', r.t0 } end
    return not r.rd and { 'start', id, r.t0 } or nil
  end
  if not container or container.st == 'p' then return { 'start', r.c, r.t0 } end
  if container.k == 'c' then
    local before = num(r, 'x') > 0 and call('LINDEX', P .. 'm:' .. r.c, num(r, 'x') - 1)
    return before and { 'member', before, container.t1 } or nil
  end
  if r.rd or released() then return { 'slot', r.c, container.ac or container.t1 } end
  return { 'start', id, r.t0 }
end

local mark, node = held(id)
if mark then return { 'mark', node, rec(node).mw or r.t0 } end
local alive = call('ZSCORE', P .. 'runs', id)
if alive then return { 'run', r.w, r.t1 } end
for _, row_name in ipairs({ id, '!k:' .. id }) do
  local due = call('ZSCORE', P .. 'out', row_name)
  if due then return { 'row', row_name, r.oa or int(due - OFFER_AFTER) } end
end
local found
if r.k ~= 't' and r.st == 'a' then found = of_active_container() elseif r.st == 'p' then found = of_pending() end
if not found and r.sl then found = { 'slot', r.c, r.t1 } end
return found or { 'nothing', id, r.t1 or r.t0 }
