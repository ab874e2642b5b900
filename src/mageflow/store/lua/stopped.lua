--[[ A run that was told to stop is over; whatever it would have reported is discarded.

ARGV[3] id   [4] run
Returns {'recorded'} or gone, superseded.
]]
local id = ARGV[3]
local r = rec(id)
if not r then return answer('gone') end
if r.n ~= ARGV[4] then return answer('superseded') end
local counted = release(id)
drain()
if counted then live(id, -1) end
return answer('recorded')
