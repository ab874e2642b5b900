--[[ A run is over because it was canceled at the task manager.

ARGV[3] id   [4] run
Returns {'recorded', rows, nodes, continues} or gone, superseded.
Invariant: what was interrupted, or given to another run, is not canceled by that: it was ourselves who took the run back.
]]
local id = ARGV[3]
local r = rec(id)
if not r then return answer('gone') end
if r.n ~= ARGV[4] then
  overtaken_over(id, ARGV[4])
  return answer('superseded')
end
if not release(id) then return answer('superseded') end
if not ENDED[r.st] and not drop(id) then
  if overtaken(id) then ready_again(id) else cancel(id) end
end
drain()
live(id, -1)
return answer('recorded')
