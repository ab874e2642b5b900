--[[ What a signature waits on: the first that applies of mark, run, time, row, slot, member, open gate, start.

A long list is searched to `FAR`, a set to `LOOK` entries; what is beyond is taken to be as it should be.
]]
local LOOK, FAR = 50, 100000

local function in_list(key, id)
  return call('LPOS', key, id, 'MAXLEN', FAR) or (call('LLEN', key) > FAR and FAR)
end

-- Whether a member stands in the queue of its swarm: by itself, or among those that the swarm's run or close made ready.
local function queued(id)
  local swarm = rec(id).c
  if rec(swarm).it then
    local _, index = item_of(id)
    if index >= num(rec(swarm), 'nm') - call('LLEN', P .. 'i:' .. swarm) then return true end
  end
  if in_list(P .. 'q:' .. swarm, id) then return true end
  local place = in_list(P .. 'w:' .. swarm, id)
  if not place then return false end
  for _, entry in ipairs(call('LRANGE', P .. 'q:' .. swarm, 0, 999)) do
    local count = string.match(entry, '^%*(%d+)$')
    if count then place = place - tonumber(count) end
    if place < 0 then return true end
  end
  return false
end

-- The member for which an entry of a swarm's slots stands: it has not ended, or a run that it left behind goes on.
local function holder(entry)
  local member, run = string.match(entry, '^([^~]+)~?(.*)$')
  local r = rec(member)
  if run == '' then return r and not ENDED[r.st] and member end
  if run == 'w' then return call('ZSCORE', P .. 'out', '!c:' .. member) and member end
  if r and run == r.n and call('ZSCORE', P .. 'runs', member) then return member end
  return call('ZSCORE', P .. 'runs', entry) and member
end

local function slots_of(id) return call('SRANDMEMBER', P .. 'l:' .. id, LOOK) end

local function of_active_container(id, r)
  if r.k ~= 's' then
    local member = current_member(id)
    return member and not ENDED[rec(member).st] and { 'member', member, r.t1 } or nil
  end
  local member
  for _, entry in ipairs(slots_of(id)) do member = member or holder(entry) end
  member = member or call('SRANDMEMBER', P .. 'g:' .. id)
  if member then return { 'member', member, r.ac or r.t1 } end
  if r.cl ~= '1' and call('ZSCORE', P .. 'out', '!a:' .. id) then return { 'open gate', id, r.ac or r.t1 } end
  if r.own == '0' and call('LLEN', P .. 'w:' .. id) > 0 then return { 'start', id, r.t1 } end
end

local function of_swarm_member(id, r, swarm)
  if call('SISMEMBER', P .. 'l:' .. r.c, id) == 1 then return nil end
  if not queued(id) then
    local may_start = not r.rd and (swarm.cl ~= '1' or swarm.own == '0') and in_list(P .. 'w:' .. r.c, id)
    return may_start and { 'start', id, r.t0 } or nil
  end
  local free = not swarm.mc or call('SCARD', P .. 'l:' .. r.c) < tonumber(swarm.mc)
  if free and not without_slot(r.c) and not call('ZSCORE', P .. 'out', '!r:' .. r.c) then return nil end
  return { 'slot', r.c, swarm.ac or swarm.t1 }
end

local function of_pending(id, r)
  if not r.c then
    if r.rd then return nil end
    return { 'start', num(r, 'rf') > 0 and 'firing' or id, r.t0 }
  end
  local container = rec(r.c)
  if not container or container.st == 'p' then return { 'start', r.c, r.t0 } end
  if container.k == 's' then return of_swarm_member(id, r, container) end
  return not r.rd and num(r, 'x') > 0 and { 'member', current_member(r.c), container.t1 } or nil
end

-- Returns nothing for what has ended; {'nothing', ...} for what is stalled, which must not be.
local function waits_on(id)
  local r = rec(id)
  if ended(r, id) then return nil end
  local mark, node = held(id)
  if mark then return { 'mark', node, rec(node).mw or r.t0 } end
  if call('ZSCORE', P .. 'runs', id) then return { 'run', r.w, r.t1 } end
  if r.du and call('ZSCORE', P .. 'out', '!d:' .. id) then return { 'time', r.du, r.t0 } end
  local rows = { id, '!k:' .. id, '!r:' .. id, '!c:' .. id, '!o:' .. id, '!h:' .. id, r.by and '!e:' .. r.by }
  for _, name in ipairs(rows) do
    local due = call('ZSCORE', P .. 'out', name)
    if due then return { 'row', name, r.oa or int(due - OFFER_AFTER) } end
  end
  local container = without_slot(id)
  if container and r.hd then return { 'slot', rec(container).c, r.t1 or r.t0 } end
  local found
  if r.by and rec(r.by) and not ENDED[rec(r.by).st] then found = { 'member', r.by, r.t1 } end
  if r.k ~= 't' and r.st == 'a' then found = of_active_container(id, r) end
  if r.st == 'p' then found = of_pending(id, r) end
  return found or { 'nothing', id, r.t1 or r.t0 }
end
