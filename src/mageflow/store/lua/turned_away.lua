--[[ A delivery was told that its signature is held or canceled: the row goes, and waits on the list of what holds it.

ARGV[3] id
Returns {'ok', rows, nodes, continues}.
]]
local id = ARGV[3]
local r = rec(id)
local waits = r and not ENDED[r.st] and not awaits_other(r) and not call('ZSCORE', P .. 'runs', id)
if waits and not drop(id) and held(id) then
  call('ZREM', P .. 'out', id)
  ready_again(id)
end
drain()
return answer('ok')
