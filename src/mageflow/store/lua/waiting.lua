--[[ What a signature waits on: the first that applies of mark, run, row, slot, member, open gate, start. ]]

-- Whether a member that was not started by itself is among those that its swarm's run or close made ready.
local function released(id)
  local swarm = rec(id).c
  local place = call('LPOS', P .. 'w:' .. swarm, id, 'MAXLEN', 100000)
  if rec(swarm).own ~= '1' then return false end
  if not place then return true end
  for _, entry in ipairs(call('LRANGE', P .. 'q:' .. swarm, 0, 999)) do
    local count = string.match(entry, '^%*(%d+)$')
    if count then place = place - tonumber(count) end
    if place < 0 then return true end
  end
  return false
end

local function of_active_container(id, r)
  if r.k == 'c' then
    local member = current_member(id)
    return member and not ENDED[rec(member).st] and { 'member', member, r.t1 } or nil
  end
  local slots = call('SRANDMEMBER', P .. 'l:' .. id, 1)
  if slots[1] then return { 'member', (string.gsub(slots[1], '~.*$', '')), r.ac or r.t1 } end
  if num(r, 'na') > 0 then return { 'member', current_member(id), r.t1 } end
  if r.cl ~= '1' and call('ZSCORE', P .. 'out', '!a:' .. id) then return { 'open gate', id, r.ac or r.t1 } end
  if r.own == '0' and call('LLEN', P .. 'w:' .. id) > 0 then return { 'start', id, r.t1 } end
end

local function of_pending(id, r)
  if not r.c then
    if r.rd then return nil end
    return { 'start', num(r, 'rf') > 0 and 'firing' or id, r.t0 }
  end
  local container = rec(r.c)
  if not container or container.st == 'p' then return { 'start', r.c, r.t0 } end
  if container.k == 'c' then
    return not r.rd and num(r, 'x') > 0 and { 'member', current_member(r.c), container.t1 } or nil
  end
  if call('SISMEMBER', P .. 'l:' .. r.c, id) == 1 then return nil end
  if r.rd or released(id) then return { 'slot', r.c, container.ac or container.t1 } end
  return { 'start', id, r.t0 }
end

-- Returns nothing for what has ended; {'nothing', ...} for what is stalled, which must not be.
local function waits_on(id)
  local r = rec(id)
  if ended(r, id) then return nil end
  local mark, node = held(id)
  if mark then return { 'mark', node, rec(node).mw or r.t0 } end
  if call('ZSCORE', P .. 'runs', id) then return { 'run', r.w, r.t1 } end
  for _, name in ipairs({ id, '!k:' .. id, '!r:' .. id, '!c:' .. id, '!o:' .. id, '!h:' .. id }) do
    local due = call('ZSCORE', P .. 'out', name)
    if due then return { 'row', name, r.oa or int(due - OFFER_AFTER) } end
  end
  local container = without_slot(id)
  if container and r.hd then return { 'slot', rec(container).c, r.t1 or r.t0 } end
  local found
  if r.k ~= 't' and r.st == 'a' then found = of_active_container(id, r) end
  if r.st == 'p' then found = of_pending(id, r) end
  return found or { 'nothing', id, r.t1 or r.t0 }
end
