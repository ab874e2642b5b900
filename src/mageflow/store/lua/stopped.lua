--[[ A run that was told to stop is over; whatever it would have reported is discarded. What has not ended is ready again.

ARGV[3] id   [4] run
Returns {'recorded', rows, nodes, continues} or gone, superseded.
]]
local id = ARGV[3]
local r = rec(id)
if not r then return answer('gone') end
if r.n ~= ARGV[4] then
  overtaken_over(id, ARGV[4])
  return answer('superseded')
end
local counted = release(id)
if counted and not ENDED[r.st] and not drop(id) then ready_again(id) end
drain()
if counted then live(id, -1) end
return answer('recorded')
