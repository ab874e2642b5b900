--[[ The task manager was asked for rows that were offered and have not started.

ARGV[3] ms within which an offered row should start   [4..] in fours: id, dispatch, letter, result or error as JSON
  l  it waits there: look again later                g  it is gone: offer the row again, from the third time on rarely
  f  it failed there                                 c  it was canceled there                  d  it succeeded there
  r  a worker has it: lost on its way there, if its code does not begin soon                   x  it was lost so
Of a task whose code reports its end itself f means that the code never began, and there is no d.
Returns {'ok', rows, nodes, continues, lost}: runs that were lost, dispatched anew, as {id, dispatch, run}.
Invariant: a row that started, ended or was dispatched anew meanwhile is not touched.
]]
local MINUTE = 60000
local BEGINS_WITHIN = 20000
local lost = {}

local function again(id, r)
  local offers = num(r, 'of')
  local at = num(r, 'oa') + math.min(60, 2 ^ math.min(6, math.max(0, offers - 3))) * MINUTE
  if offers <= 2 or at <= now then
    call('HDEL', P .. 'b:' .. home(id), id .. ':i')
    call('ZADD', P .. 'out', int(now + OFFER_AFTER), id)
    offer(id)
  else
    call('ZADD', P .. 'out', int(at), id)
  end
end

-- Counted as the loss of a worker is. Should it arrive after all, it is told that its dispatch is stale.
local function lose(id, r, problem)
  lost[#lost + 1] = { id, num(r, 'd'), call('HGET', P .. 'b:' .. home(id), id .. ':i') or '' }
  call('ZREM', P .. 'out', id)
  if add(id, 'cr', 1) > CRASH_LIMIT then
    call('HSET', P .. 'b:' .. home(id), id .. ':e', problem)
    end_node(id, 'f')
  else
    ready_again(id)
  end
end

-- The patience doubles with each loss: a slow dependency of the task is no loss.
local function wait_for_begin(id, r, problem)
  local dispatch, since = string.match(r.sn or '', '^(%d+) (%d+)$')
  if dispatch ~= r.d then
    since = now
    put(id, { sn = r.d .. ' ' .. int(now) })
  end
  local ends = tonumber(since) + BEGINS_WITHIN * 2 ^ math.min(8, num(r, 'cr'))
  if now >= ends then return lose(id, r, problem) end
  call('ZADD', P .. 'out', int(math.min(ends, now + math.max(patience(ARGV[3]), now - num(r, 'oa')))), id)
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
    elseif letter == 'r' then
      wait_for_begin(id, r, ARGV[i + 3])
    elseif letter == 'x' then
      lose(id, r, ARGV[i + 3])
    else
      look_again(id, now - num(r, 'oa'), patience(ARGV[3]))
    end
  end
end
drain()
return answer('ok', lost)
