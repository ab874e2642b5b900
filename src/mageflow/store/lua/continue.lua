--[[ Work off a part of a continue row: `!<kind>:<id>`.

  a  an open swarm in which nothing happens   c  cancel the members of an ended container   g  take back a draft
  k  copy a callback                          r  fill the slots of a swarm                 x  expire a finished flow
  z  free what is large of an expired container   y  count what of an ended flow names its own root, then expire it
  o  the own run of swarms that their members opened   h  go on with what a mark held   u  cancel what is held too long
  e  end what waited for an ended replacement   d  start what was to start now
  n  cancel what an earlier run of an ended task created, nobody started and its last run did not ask for again
  f  cancel the callbacks that were fired below a canceled signature

ARGV[3] the row
Returns {'ok', rows, nodes, continues}: the row is among the continues while something is left.
Invariant: a step repeated changes nothing; at most about 50 records are touched, and a page.
]]
local kind, id = string.match(ARGV[3], '^!(%a):(.*)$')
local steps = {}

function steps.c() walk(id) end
function steps.k() copy(id) end
function steps.o() run_opened(id) end
function steps.h() release_held(id) end

function steps.u()
  call('ZREM', P .. 'out', ARGV[3])
  if rec(id).mk then cancel(id) end
end

function steps.n()
  local key, earlier = P .. 'n:' .. id, '(' .. (rec(id).br or rec(id).n)
  while budget > 0 do
    local made = call('ZRANGEBYSCORE', key, '-inf', earlier, 'LIMIT', 0, PAGE)
    if #made == 0 then return call('ZREM', P .. 'out', ARGV[3]) end
    call('ZREM', key, unpack(made))
    for _, unasked in ipairs(made) do
      local r = rec(unasked)
      budget = budget - 1
      if r and r.st == 'p' and not r.rd and not r.c and num(r, 'rf') <= 0 then end_canceled(unasked, 'not_asked_again') end
    end
  end
  continue(ARGV[3])
end

function steps.e()
  call('ZREM', P .. 'out', ARGV[3])
  replaced_ended(rec(id).fo or rec(id).c, id)
end

function steps.d()
  call('ZREM', P .. 'out', ARGV[3])
  if rec(id).st == 'p' then ready(id) end
end

function steps.r()
  call('ZREM', P .. 'out', ARGV[3])
  refill(id)
end

function steps.a()
  local r = rec(id)
  call('ZREM', P .. 'out', ARGV[3])
  if r.st ~= 'a' or r.cl == '1' or dead(id) then return end
  if call('SCARD', P .. 'l:' .. id) > 0 or call('EXISTS', P .. 'q:' .. id, P .. 'i:' .. id) > 0 then return end
  if held(id) or call('EXISTS', P .. 'g:' .. id) == 1 then return call('ZADD', P .. 'out', int(now + NEW_TTL.s), ARGV[3]) end
  local due = num(r, 'ac') + NEW_TTL.s
  if due > now then return call('ZADD', P .. 'out', int(due), ARGV[3]) end
  call('HSET', P .. 'b:' .. home(id), id .. ':e', '{"type":"SwarmAbandonedError","message":"the swarm was left open and '
    .. 'nothing ran or was added for ' .. int(NEW_TTL.s / 1000) .. ' s"}')
  fail_swarm(id, id)
end

local OF_A_TASK = { 's:', 'b:', 'c:', 'h:', 'n:' }
local OF_A_CONTAINER = { 's:', 'b:', 'c:', 'm:', 'w:', 'q:', 'o:', 'l:', 'g:', 'h:', 'i:', 'e:', 'y:' }
-- Callbacks that were fired below a canceled signature end too: nothing else may ever come to those that are held by marks
-- of their own, or that wait at an open gate.
function steps.f()
  local list = P .. 'f:' .. id
  while budget > 0 do
    local entry = call('LPOP', list)
    if not entry then return call('ZREM', P .. 'out', ARGV[3]) end
    local node, offset = string.match(entry, '^(%S+) (%d+)$')
    local r = rec(node)
    budget = budget - 1
    if r and r.o and node ~= id then
      call('ZREM', P .. 'out', node)
      end_canceled(node)
    end
    local members, behind = {}, nil
    if r and r.k ~= 't' then members, behind = page_of(node, tonumber(offset)) end
    for _, member in ipairs(members) do call('RPUSH', list, member .. ' 0') end
    if #members > 0 then
      call('LPUSH', list, node .. ' ' .. int(behind))
    else
      for _, fired in ipairs(call('LRANGE', P .. 'c:' .. node, 0, -1)) do call('RPUSH', list, fired .. ' 0') end
      local by = r and r.by and rec(r.by)
      if by and by.c then call('RPUSH', list, r.by .. ' 0') end
    end
  end
  continue(ARGV[3])
end

-- The results of a map, a page at a time, behind its items. Returns whether any were left.
local function expire_results(map, offset, ttl, list)
  local first, last = math.max(0, offset - num(rec(map), 'nm')), math.ceil(num(rec(map), 'nm') / 100) - 1
  for bucket = first, math.min(first + PAGE - 1, last) do
    call('PEXPIRE', P .. 'r:' .. map .. ':' .. int(bucket), ttl)
    budget = budget - 1
  end
  if first <= last then call('LPUSH', list, map .. ' ' .. int(num(rec(map), 'nm') + first + PAGE)) end
  return first <= last
end

-- At its expiry a server frees a key in one go, unless it is told to do it aside (lazyfree-lazy-expire): what is large is
-- unlinked at that time, or a minute later it expires by itself.
local LARGE = 1000
local function free(id)
  call('ZREM', P .. 'out', '!z:' .. id)
  call('UNLINK', P .. 'b:' .. id, P .. 'm:' .. id, P .. 'w:' .. id, P .. 'i:' .. id)
end

local function free_later(id, ttl)
  if ttl <= 1 then return free(id) end
  call('ZADD', P .. 'out', int(now + ttl), '!z:' .. id)
  for _, key in ipairs({ 'b:', 'm:', 'w:', 'i:' }) do call('PEXPIRE', P .. key .. id, int(ttl + 60000)) end
end

function steps.z() free(id) end

-- Append what is below a record of a flow that is over: its members, a page at a time, then whatever else it led to. Returns
-- whether it is to be visited again.
local function list_members(node, offset, list)
  local members, behind = {}, nil
  if rec(node).k ~= 't' then members, behind = page_of(node, offset) end
  if #members > 0 then call('LPUSH', list, node .. ' ' .. int(behind), unpack(members)) end
  return #members > 0
end

local function list_others(node, list)
  local by = rec(node).by
  if by and rec(by) and rec(by).c then call('RPUSH', list, by) end
  local fired = call('LRANGE', P .. 'c:' .. node, 0, -1)
  if #fired > 0 then call('RPUSH', list, unpack(fired)) end
end

-- One visit of a record of a flow that is over.
local function expire(node, offset, ttl, list)
  local r = rec(node)
  budget = budget - 1
  if not r or r.v or list_members(node, offset, list) then return end
  if r.it and expire_results(node, offset, ttl, list) then return end
  list_others(node, list)
  if call('PTTL', P .. 's:' .. node) < 0 then each_callback(node, forget) end
  local template = r.it and rec(r.it)
  if template and template.tp and num(template, 'rf') <= 0 then call('RPUSH', list, r.it) end
  for _, key in ipairs(r.k == 't' and OF_A_TASK or OF_A_CONTAINER) do
    call('PEXPIRE', P .. key .. node, ttl)
  end
  if num(r, 'nm') > LARGE then free_later(node, tonumber(ttl)) end
end

-- A flow whose root is named as a callback by its own records is kept by those of others alone. When the last of those goes
-- while this counts, the expiry begins anew with the same list.
function steps.y()
  local list, r = P .. 'x:' .. id, rec(id)
  if not r or r.xt then return call('ZREM', P .. 'out', ARGV[3]) end
  if not r.ri then
    put(id, { ri = 0 })
    call('RPUSH', list, id .. ' 0')
  end
  local function count(template)
    if template == id then add(id, 'ri', 1) end
  end
  while budget > 0 do
    local entry = call('LPOP', list)
    if not entry then
      call('ZREM', P .. 'out', ARGV[3])
      return num(r, 'rf') <= num(r, 'ri') and continue('!x:' .. id)
    end
    local node, offset = string.match(entry, '^(%S+) ?(%d*)$')
    budget = budget - 1
    if rec(node) and not rec(node).v and not list_members(node, tonumber(offset) or 0, list) then
      list_others(node, list)
      each_callback(node, count)
      local template = rec(node).it
      if template and rec(template) and rec(template).tp then each_callback(template, count) end
    end
  end
  continue(ARGV[3])
end

function steps.x()
  local list, r = P .. 'x:' .. id, rec(id)
  if r and not r.xt then
    put(id, { xt = (r.re == 'expired' or r.re == 'removed') and 1 or DONE_TTL[r.k] })
    call('DEL', list)
    call('RPUSH', list, id .. ' 0')
    call('ZREM', P .. 'out', '!y:' .. id)
  end
  while budget > 0 do
    local entry = call('LPOP', list)
    if not entry then return call('ZREM', P .. 'out', ARGV[3]) end
    local node, offset = string.match(entry, '^(%S+) ?(%d*)$')
    expire(node, tonumber(offset) or 0, r and r.xt or '1', list)
  end
  continue(ARGV[3])
end

local function take_back_claim(id)
  local r = rec(id)
  if not r then return end
  local from = P .. 'b:' .. r.c
  copy_payload(id, from, id, P .. 'b:' .. id)
  drop_payload(id, from)
  drop_fields(id, 'c', 'x', 'dr')
  if r.mk then
    call('ZADD', P .. 'out', 'NX', int(now + SUSPENDED_TTL), '!u:' .. id)
  elseif num(r, 'rf') == 0 then
    call('ZADD', P .. 'ix:p', int(now + NEW_TTL[r.k]), id)
  end
end

local function take_back_node(id)
  local r = rec(id)
  if not r then return end
  each_callback(id, forget)
  drop_payload(id, P .. 'b:' .. home(id))
  call('UNLINK', P .. 's:' .. id)
  call('ZREM', P .. 'ix:p', id)
end

-- Take back what a client wrote that died before it was complete: the last first, what new containers had at the end.
function steps.g()
  call('ZREM', P .. 'drafts', id)
  while budget > 0 do
    local entry = call('RPOP', P .. 'dr:' .. id)
    budget = budget - 1
    if not entry then return call('ZREM', P .. 'out', ARGV[3]) end
    local mark, node = string.match(entry, '^([<+~]?)(.*)$')
    if mark == '<' then
      take_back_claim(node)
    elseif mark == '+' then
      call('UNLINK', P .. 'm:' .. node, P .. 'w:' .. node, P .. 'b:' .. node)
    elseif mark == '' then
      take_back_node(node)
    end
  end
  continue(ARGV[3])
end

if rec(id) or kind == 'x' or kind == 'g' or kind == 'f' or kind == 'z' then steps[kind]() else call('ZREM', P .. 'out', ARGV[3]) end
drain()
return answer('ok')
