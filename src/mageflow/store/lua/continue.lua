--[[ Work off a part of a continue row: `!<kind>:<id>`.

  a  an open swarm in which nothing happens   c  cancel the members of an ended container   g  take back a draft
  k  copy a callback                          r  fill the slots of a swarm                 x  expire a finished flow

ARGV[3] the row
Returns {'ok', rows, nodes, continues}: the row is among the continues while something is left.
Invariant: a step repeated changes nothing; at most about 100 records are touched.
]]
local kind, id = string.match(ARGV[3], '^!(%a):(.*)$')
local steps = {}

function steps.c() walk(id) end
function steps.k() copy(id) end

function steps.r()
  call('ZREM', P .. 'out', ARGV[3])
  if rec(id) then refill(id) end
end

function steps.a()
  local r = rec(id)
  call('ZREM', P .. 'out', ARGV[3])
  if not r or r.st ~= 'a' or r.cl == '1' or dead(id) then return end
  if call('SCARD', P .. 'l:' .. id) > 0 or call('EXISTS', P .. 'q:' .. id) == 1 then return end
  local due = num(r, 'ac') + settings[3]
  if due > now then return call('ZADD', P .. 'out', int(due), ARGV[3]) end
  call('HSET', P .. 'b:' .. home(id), id .. ':e', '{"type":"SwarmAbandonedError","message":"the swarm was left open and '
    .. 'nothing ran or was added for ' .. int(settings[3] / 1000) .. ' s"}')
  fail_swarm(id, id)
end

-- One visit of a record of a flow that is over: its members come first, a page at a time, then what belongs to it.
local function expire(node, offset, ttl, list)
  local r = rec(node)
  budget = budget - 1
  if not r then return end
  local members = r.k ~= 't' and call('LRANGE', P .. 'm:' .. node, offset, offset + 49) or {}
  if #members > 0 then
    call('LPUSH', list, node .. ' ' .. int(offset + #members), unpack(members))
    return
  end
  local fired = call('LRANGE', P .. 'c:' .. node, 0, -1)
  if #fired > 0 then call('RPUSH', list, unpack(fired)) end
  each_callback(node, forget)
  for _, key in ipairs(r.k == 't' and { 's:', 'b:', 'c:' } or { 's:', 'b:', 'c:', 'm:', 'w:', 'q:', 'l:' }) do
    call('PEXPIRE', P .. key .. node, ttl)
  end
end

function steps.x()
  local list, r = P .. 'x:' .. id, rec(id)
  if r and not r.xt then
    put(id, { xt = r.re == 'expired' and 1 or settings[3 + KIND[r.k]] })
    call('RPUSH', list, id .. ' 0')
  end
  while budget > 0 do
    local entry = call('LPOP', list)
    if not entry then return call('ZREM', P .. 'out', ARGV[3]) end
    local node, offset = string.match(entry, '^(%S+) ?(%d*)$')
    expire(node, tonumber(offset) or 0, r and r.xt or '1', list)
  end
  continue(ARGV[3])
end

-- Take back what a client wrote that died before it was complete.
function steps.g()
  local list = P .. 'dr:' .. id
  while budget > 0 do
    local entry = call('LPOP', list)
    budget = budget - 1
    if not entry then
      call('ZREM', P .. 'drafts', id)
      call('ZREM', P .. 'out', ARGV[3])
      call('UNLINK', P .. 'm:' .. id, P .. 'w:' .. id, P .. 'b:' .. id)
      return
    end
    local node = string.gsub(entry, '^<', '')
    local r = rec(node)
    if r and node ~= entry then
      local payload = call('HMGET', P .. 'b:' .. r.c, node, node .. ':s', node .. ':f')
      call('HSET', P .. 'b:' .. node, node, payload[1] or '{}')
      if payload[2] then call('HSET', P .. 'b:' .. node, node .. ':s', payload[2]) end
      if payload[3] then call('HSET', P .. 'b:' .. node, node .. ':f', payload[3]) end
      call('HDEL', P .. 'b:' .. r.c, node, node .. ':m', node .. ':s', node .. ':f')
      call('HDEL', P .. 's:' .. node, 'c', 'x', 'dr')
      call('ZADD', P .. 'ix:p', int(now + settings[KIND[r.k]]), node)
    elseif r then
      each_callback(node, forget)
      call('UNLINK', P .. 's:' .. node, P .. 'b:' .. node, P .. 'm:' .. node, P .. 'w:' .. node)
    end
  end
  continue(ARGV[3])
end

steps[kind]()
drain()
return answer('ok')
