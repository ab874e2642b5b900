--[[ A worker lives, and so do its runs.

ARGV[3] worker   [4..] id and run, in pairs
Returns ids and runs, in pairs: those that are to stop.
After a gap of more than 2 s in which no beat of the namespace came, nothing lapses for a whole lease (see sweep.lua).
]]
local last = tonumber(call('GET', P .. 'beat') or 0)
if now - last > 2000 then call('SET', P .. 'gap', int(now)) end
call('SET', P .. 'beat', int(now))
call('ZADD', P .. 'workers', int(now), ARGV[3])
local stop = {}
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local r = rec(id)
  local over = not r or r.n ~= ARGV[i + 1]
  if over then
    call('ZADD', P .. 'runs', 'XX', int(now), id .. '~' .. ARGV[i + 1])
  else
    local _, below_stopped = dead(id)
    call('ZADD', P .. 'runs', 'XX', int(now), id)
    over = ENDED[r.st] or below_stopped or overtaken(id)
  end
  if over then stop[#stop + 1], stop[#stop + 2] = id, ARGV[i + 1] end
end
return stop
