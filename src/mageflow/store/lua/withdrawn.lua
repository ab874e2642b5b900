--[[ A run is over because it was canceled at the task manager.

ARGV[3] id   [4] run
Returns {'recorded', rows, nodes, continues} or gone, ended, superseded.
Invariant: what was interrupted, or given to another run, is not canceled by that: it was ourselves who took the run back.
]]
local id = ARGV[3]
local r, known = rec(id), answer_at_once(id, ARGV[4])
if known then return known end
if not release(id) then return answer('superseded') end
if not ENDED[r.st] and not drop(id) then
  if overtaken(id) then ready_again(id) else cancel(id) end
end
return answer_report(id, true, 'recorded')
