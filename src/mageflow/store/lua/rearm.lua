--[[ A signature that waits on nothing goes on where it is. Of no effect on any other.

ARGV[3] id
Returns {'rearmed', rows, nodes, continues}, or {'fine'}: it waits on something or has ended.
]]
local id = ARGV[3]
local r = rec(id)
local wait = r and waits_on(id)
if not wait or wait[1] ~= 'nothing' then return answer('fine') end
if r.st == 'p' then
  push(ready, id)
elseif r.k == 't' then
  row(id)
elseif r.k == 's' then
  push(refill, id)
else
  local member = current_member(id)
  if ENDED[rec(member).st] then child_ended(id, member, rec(member).st, 'p') else push(ready, member) end
end
drain()
return answer('rearmed')
