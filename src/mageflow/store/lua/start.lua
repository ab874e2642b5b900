--[[ A delivery asks to run.

ARGV[3] id   [4] dispatch   [5] attempts used before   [6] worker   [7] id of the run at the task manager
ARGV[8] 1: it must not run again when its worker is lost
Returns {'run', ..., {run, attempts used}} - with an id behind them user code has ended, and that result is to be checked - or the reason why not: gone, ended, canceled, held, stale, duplicate.
What was lost on its way is no attempt, though the task manager counts it as one.
A delivery that is held or canceled is to be followed by turned_away.lua.
Invariant: of the deliveries of one dispatch and attempt one is accepted, unless the lease of that run lapsed.
]]
local id, dispatch, attempt = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local r = rec(id)
-- This script runs for each task: it does without the transitions of flow.lua.
local function answer(status, extra) return { status, {}, {}, {}, extra or {} } end

if not r then return answer('gone') end
if r.op == op then return answer('run', { num(r, 'n'), num(r, 'a') - num(r, 'al') }) end
if ENDED[r.st] or awaits_other(r) then return answer('ended') end
local d, a = num(r, 'd'), num(r, 'a')
local seen_alive = call('ZSCORE', P .. 'runs', id)
local alive = seen_alive and tonumber(seen_alive) > now - LEASE
local began = r.sd == d .. '.' .. a
local duplicate = dispatch == d and attempt == a and began
local over, stop = dead(id)
local mark = held(id)
-- Of a run of several tasks each asks: neither a suspension nor the end of a container that lets finish what runs takes
-- it back.
if duplicate and alive and not stop and (not mark or mark == 's') then return answer('duplicate') end
if over then return answer('canceled') end
if mark then return answer(mark == 'c' and 'canceled' or 'held') end
-- What was held gets a row of its own once it has its slot again.
if r.hd then return answer('stale') end
if dispatch < d or (dispatch == d and attempt < a) then return answer('stale') end
-- Another run of the same dispatch began: that one goes on, unless the task manager lost it and it was offered again.
if duplicate and ARGV[7] ~= '' then
  local known = call('HGET', P .. 'b:' .. home(id), id .. ':i')
  if known and known ~= ARGV[7] then return answer('duplicate') end
end
-- What must not run again is left to the sweeper, also where the task manager delivers it as another attempt.
if r.nx and dispatch == d and began and (attempt == a or not alive) then return answer('duplicate') end
if alive then
  -- The task manager's next attempt overtakes a run that lives: what that one holds it holds under its own name.
  if keep_slots(id, r.n) then call('ZADD', P .. 'runs', seen_alive, id .. '~' .. r.n) end
end
local lost = dispatch == d and num(r, 'al') or 0
if dispatch == d and not began then lost = lost + attempt - a end
local newest = r.tn and r.oa and call('HGET', P .. 'lo', r.tn)
call('ZREM', P .. 'out', id)
call('ZADD', P .. 'runs', int(now), id)
local fields = { n = num(r, 'n') + 1, w = ARGV[6], op = op, sd = dispatch .. '.' .. attempt, d = dispatch, a = attempt,
  al = lost ~= num(r, 'al') and lost or nil, rt = tonumber(call('GET', P .. 'stamp') or nil), nx = ARGV[8] == '1' and 1 or nil }
if r.st == 'p' then
  fields.st, fields.t1 = 'a', now
  if r.c then add(r.c, 'na', 1) end
end
put(id, fields)
if ARGV[7] ~= '' then call('HSET', P .. 'b:' .. home(id), id .. ':i', ARGV[7]) end
if r.tn and r.oa and (not newest or tonumber(newest) < tonumber(r.oa)) then call('HSET', P .. 'lo', r.tn, r.oa) end
if not seen_alive then add(top(id), 'lv', 1) end
return answer('run', { fields.n, attempt - lost, r.ck == '2' and r.rs or nil })
