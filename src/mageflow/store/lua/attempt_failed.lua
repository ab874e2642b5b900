--[[ An attempt failed and the task manager will run another.

ARGV[3] id   [4] run   [5] attempts used from now on   [6] ms until the next attempt is due   [7] error as JSON
Returns {'recorded'} or gone, ended, superseded.
Invariant: the row of the next attempt stands before its message leaves.
]]
local id = ARGV[3]
local r = rec(id)
local known = answer_at_once(id, ARGV[4])
if known then return known end
local counted = release(id)
local status = 'ended'
if r.br == ARGV[4] then
  -- It reported what replaces the task before.
elseif not ENDED[r.st] and overtaken(id) then
  status = 'superseded'
  if counted then ready_again(id) end
elseif not ENDED[r.st] and not drop(id) then
  status = 'recorded'
  call('HSET', P .. 'b:' .. home(id), id .. ':e', ARGV[7])
  put(id, { op = op, a = ARGV[5], of = 1, oa = now + tonumber(ARGV[6]) })
  call('ZADD', P .. 'out', int(now + tonumber(ARGV[6]) + OFFER_AFTER), id)
end
return answer_report(id, counted, status)
