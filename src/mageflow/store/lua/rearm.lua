--[[ Signatures that wait on nothing go on where they are; slots that nothing holds are free again. Of no effect on others.

ARGV[3..] ids
Returns {'ok', rows, nodes, continues, ids}: the ids of what was mended.
]]
FAR = 1000

local function free_leaked(id)
  local leaked = {}
  for _, entry in ipairs(slots_of(id)) do
    if not holder(entry) then leaked[#leaked + 1] = entry end
  end
  if #leaked == 0 then return false end
  call('SREM', P .. 'l:' .. id, unpack(leaked))
  push(refill, id)
  return true
end

local function rearm(id, r)
  local swarm = r.c and rec(r.c).k == 's' and r.c
  if r.st == 'p' then
    if not swarm or call('SISMEMBER', P .. 'l:' .. swarm, id) == 1 then return push(ready, id) end
    if not queued(id) then call('RPUSH', P .. 'q:' .. swarm, id) end
    push(refill, swarm)
  elseif r.k == 't' then
    row(id)
  elseif r.k == 's' then
    push(refill, id)
  else
    local member = current_member(id)
    if ENDED[rec(member).st] then child_ended(id, member, rec(member).st, 'p') else push(ready, member) end
  end
end

local mended = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local r = rec(id)
  local wait = r and NEW_TTL[r.k] and waits_on(id)
  local leaked = wait and r.k == 's' and r.st == 'a' and free_leaked(id)
  if wait and wait[1] == 'nothing' then rearm(id, r) end
  if leaked or (wait and wait[1] == 'nothing') then mended[#mended + 1] = id end
  drain()
end
return answer('ok', mended)
