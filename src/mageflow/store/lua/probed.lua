--[[ The task manager was asked for rows that were offered and have not started.

ARGV[3] ms within which an offered row should start   [4..] in fours: id, dispatch, letter, result or error as JSON
  l  it waits or runs there: look again later        g  it is gone: offer the row again, from the third time on rarely
  f  it failed there                                 c  it was canceled there                  d  it succeeded there
Of a task whose code reports its end itself f means that the code never began, and there is no d.
Returns {'ok', rows, nodes, continues}.
Invariant: a row that started, ended or was dispatched anew meanwhile is not touched.
]]
local MINUTE = 60000

local function again(id, r)
  local offers = num(r, 'of')
  local at = num(r, 'oa') + math.min(60, 2 ^ math.min(6, math.max(0, offers - 3))) * MINUTE
  if offers <= 2 or at <= now then
    call('ZADD', P .. 'out', int(now + OFFER_AFTER), id)
    offer(id)
  else
    call('ZADD', P .. 'out', int(at), id)
  end
end

local function leave(id, r)
  local timeout, age = patience(ARGV[3]), now - num(r, 'oa')
  call('ZADD', P .. 'out', int(now + math.min(5 * MINUTE, math.max(timeout, age / 2))), id)
end

for i = 4, #ARGV, 4 do
  local id, letter = ARGV[i], ARGV[i + 2]
  local r = rec(id)
  if r and r.d == ARGV[i + 1] and not ended(r, id) and call('ZSCORE', P .. 'out', id) then
    if letter == 'g' then
      again(id, r)
    elseif letter == 'f' or letter == 'd' then
      call('ZREM', P .. 'out', id)
      call('HSET', P .. 'b:' .. home(id), id .. (letter == 'd' and ':r' or ':e'), ARGV[i + 3])
      end_node(id, letter)
    elseif letter == 'c' then
      cancel(id)
    else
      leave(id, r)
    end
  end
end
drain()
return answer('ok')
