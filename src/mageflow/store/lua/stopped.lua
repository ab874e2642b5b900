--[[ A run that was told to stop is over; whatever it would have reported is discarded. What has not ended is ready again.

ARGV[3] id   [4] run
Returns {'recorded', rows, nodes, continues} or gone, ended, superseded.
]]
local id = ARGV[3]
local r, known = rec(id), answer_at_once(id, ARGV[4])
if known then return known end
local counted = release(id)
if counted and not ENDED[r.st] and not drop(id) then ready_again(id) end
return answer_report(id, counted, 'recorded')
