--[[ Find what nobody cares for any more: overdue rows, lapsed runs, expired flows and drafts. Claims are atomic.

ARGV[3] short names of tasks of which nothing waits at the task manager, \31 between them, `*`: all   [4] ms within which an offered row should start   [5] 1: the task manager can be asked what became of a run
Returns {'ok', rows, nodes, continues, {undecided, more, asks, lost, next}}: rows to be offered now, continue rows to be worked off, the number
of offered rows that would be offered again if the queue were known to be empty, whether more is due, rows to ask for (see
probed.lua) as {id, dispatch, run, task, ms since it was offered}, runs that lost their worker as {id, dispatch, run}, and the ms
until the next delayed start among the first 50 rows, or nothing.
]]
local undecided, drained, asks, lost = 0, {}, {}, {}
for name in string.gmatch(ARGV[3], '[^\31]+') do drained[name] = true end
local MINUTE = 60000

local ASK_AFTER = 5000
-- A question costs the task manager about as much as a run does: ten a second, twenty after a while without any.
local ASK_EVERY, ASKS_SAVED = 100, 2000

local function manager_run(id) return call('HGET', P .. 'b:' .. home(id), id .. ':i') end

-- The task manager is asked for this row, or later where it was asked a lot; meanwhile no other sweeper looks at it. What
-- a worker was seen to have, and not to have begun, is no part of a long queue.
local function ask(id, r, run)
  local age, saved = now - num(r, 'oa'), math.max(tonumber(call('GET', P .. 'ask') or 0), now - ASKS_SAVED)
  if saved + ASK_EVERY > now and not r.sn then
    return look_again(id, age, ASK_AFTER)
  end
  call('SET', P .. 'ask', int(saved + ASK_EVERY), 'PX', ASK_AFTER)
  asks[#asks + 1] = { id, num(r, 'd'), run, r.tn or '', int(age) }
  call('ZADD', P .. 'out', int(now + ASK_AFTER), id)
end

-- A row that was offered and has not started: at once if its message must be lost, else after 1, 2, 4 .. 60 minutes.
local function offer_again(id, r)
  local offers, offered_at = num(r, 'of'), num(r, 'oa')
  local newest = r.tn and call('HGET', P .. 'lo', r.tn)
  local lost = drained['*'] or drained[r.tn or '*'] or (newest and tonumber(newest) > offered_at)
  local wait = math.min(60, 2 ^ math.min(6, math.max(0, offers - 3))) * MINUTE
  if (lost and offers <= 2) or now - offered_at >= wait then
    call('ZADD', P .. 'out', int(now + OFFER_AFTER), id)
    return offer(id)
  end
  undecided = undecided + (offers <= 2 and 1 or 0)
  local age, timeout = now - offered_at, patience(ARGV[4])
  local next_look = age < 2 * timeout and 1000 or math.min(math.max(timeout, age / 2), math.max(timeout, 6000))
  if offers > 2 then next_look = math.min(wait - age, MINUTE) end
  call('ZADD', P .. 'out', int(now + next_look), id)
end

local due, next_start, oldest = {}, '', call('ZRANGE', P .. 'out', 0, 49, 'WITHSCORES')
for i = 1, #oldest, 2 do
  local row, left = oldest[i], tonumber(oldest[i + 1]) - now
  if left <= 0 then
    due[#due + 1] = row
  elseif next_start == '' and string.sub(row, 1, 3) == '!d:' then
    next_start = int(left)
  end
end
for _, id in ipairs(due) do
  if string.sub(id, 1, 1) == '!' then
    continue(id)
  else
    local r = rec(id)
    if not r or ENDED[r.st] or dead(id) then
      call('ZREM', P .. 'out', id)
    elseif held(id) then
      call('ZREM', P .. 'out', id)
      ready_again(id)
      drain()
    elseif num(r, 'of') == 0 then
      call('ZADD', P .. 'out', int(now + OFFER_AFTER), id)
      offer(id)
    else
      local run = ARGV[5] == '1' and manager_run(id)
      if run then ask(id, r, run) else offer_again(id, r) end
    end
  end
end

local function lapse(id)
  local older, run = string.match(id, '^(.*)~(%d+)$')
  if older then return overtaken_over(older, run) end
  local r = rec(id)
  local run = manager_run(id)
  if run then lost[#lost + 1] = { id, num(r, 'd'), run } end
  local counted = release(id)
  if not ENDED[r.st] and overtaken(id) and not r.nx then
    ready_again(id)
  elseif not ENDED[r.st] and not drop(id) then
    local lapses = add(id, 'cr', 1)
    if lapses > CRASH_LIMIT or r.nx then
      call('HSET', P .. 'b:' .. home(id), id .. ':e', '{"type":"WorkerLostError","message":"its worker was lost '
        .. (r.nx and 'and it must not run again (is_idempotent=False)' or int(lapses) .. ' times (crash_limit)') .. '"}')
      push(end_node, id, 'f')
    else
      ready_again(id)
    end
  end
  drain()
  if counted then live(id, -1) end
end

-- After a gap the first sweep may come before the first beat, which notes the gap.
local gap, heard = tonumber(call('GET', P .. 'gap') or 0), tonumber(call('GET', P .. 'beat') or now)
if now - gap > LEASE and now - heard <= 2000 then
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'runs', '-inf', int(now - LEASE), 'LIMIT', 0, 20)) do
    if rec((string.gsub(id, '~.*$', ''))) then lapse(id) else call('ZREM', P .. 'runs', id) end
  end
end

-- What was never started goes after its time: the record first, so that nobody can start it any more.
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'ix:p', '-inf', int(now), 'LIMIT', 0, 10)) do
  call('ZREM', P .. 'ix:p', id)
  if rec(id) and rec(id).st == 'p' and num(rec(id), 'rf') == 0 then
    put(id, { st = 'c', t2 = now, re = 'expired' })
    continue('!x:' .. id)
  end
end
for _, st in ipairs({ 'd', 'f', 'c' }) do call('ZREMRANGEBYSCORE', P .. 'ix:' .. st, '-inf', int(now)) end
call('ZREMRANGEBYSCORE', P .. 'workers', '-inf', int(now - 60000))
for _, draft in ipairs(call('ZRANGEBYSCORE', P .. 'drafts', '-inf', int(now), 'LIMIT', 0, 10)) do
  call('ZREM', P .. 'drafts', draft)
  continue('!g:' .. draft)
end
return answer('ok', { undecided, #due == 50 and 1 or 0, asks, lost, next_start })
