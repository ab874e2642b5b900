--[[ A row cannot be dispatched: the task manager or the message itself refuses it for good.

ARGV[3] id   [4] dispatch   [5] error as JSON
Returns {'recorded', rows, nodes, continues} or gone, ended, stale.
]]
local id = ARGV[3]
local r = rec(id)
if not r then return answer('gone') end
if ended(r, id) then return answer('ended') end
if r.d ~= ARGV[4] or not call('ZSCORE', P .. 'out', id) then return answer('stale') end
call('ZREM', P .. 'out', id)
call('HSET', P .. 'b:' .. home(id), id .. ':e', ARGV[5])
end_node(id, 'f')
drain()
return answer('recorded')
