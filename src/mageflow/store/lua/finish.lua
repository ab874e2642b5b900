--[[ A run reports its outcome; successors and callbacks become ready in the same step.

ARGV[3] id   [4] run   [5] d (done) or f (failed)   [6] result or error as JSON   [7] what the result chooses among the
cases of a switch, as JSON: a bool, int or str; or nothing
Returns {'recorded', rows, nodes, continues}, or what became of it: gone, ended, superseded.
Invariant: one outcome is recorded; what a superseded run reports changes nothing.
]]
local id, run, outcome = ARGV[3], ARGV[4], ARGV[5]

-- Whether the result of a task may be what a switch chooses by.
local function below_chooser(id)
  local record = rec(id)
  while record and record.c do
    if rec(record.c) and rec(record.c).k == 'w' and num(record, 'x') == 0 then return true end
    record = rec(record.c)
  end
end

local r = rec(id)
if not r then return answer('gone') end
if r.op == op then return answer('recorded') end
if r.n ~= run then
  overtaken_over(id, run)
  return answer('superseded')
end
local counted = release(id)
local status = 'ended'
local _, stop = dead(id)
if not ENDED[r.st] and not stop and overtaken(id) then
  status = 'superseded'
  if counted then ready_again(id) end
elseif not ENDED[r.st] and not stop then
  status = 'recorded'
  call('ZREM', P .. 'out', id)
  call('HSET', P .. 'b:' .. home(id), id .. (outcome == 'd' and ':r' or ':e'), ARGV[6])
  put(id, { op = op, ch = ARGV[7] ~= '' and below_chooser(id) and short(ARGV[7]) or nil })
  end_node(id, outcome)
end
drain()
if counted then live(id, -1) end
return answer(status)
