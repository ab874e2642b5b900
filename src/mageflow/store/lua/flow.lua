--[[ The transitions that every script shares: what becomes ready, what an end does to the containers above it.

A script pushes jobs, `drain` works them off in order. Whatever can be large stops when the budget is used up and leaves a
continue row, so no script does more than about 50 units of work.
]]
local budget = 50
local PAGE = 20
local jobs, first = {}, 1
local rows, nodes, continues, seen = {}, {}, {}, {}
local copies = 0
local describe, end_node, end_replacement, replaced_ended, ready_again, end_canceled, ready, refill, walk, copy, settle, run_opened, hold

local function push(job, ...) jobs[#jobs + 1] = { job, ... } end

local function drain()
  while first <= #jobs do
    local job = jobs[first]
    first = first + 1
    job[1](job[2], job[3], job[4], job[5])
  end
end

local function continue(row)
  call('ZADD', P .. 'out', int(now + OFFER_AFTER), row)
  continues[#continues + 1] = row
end

-- The value that `id` injects, if it is one string of acceptable size; a list or a large value is read by the caller.
local function value_of(id)
  if not id then return '' end
  local record = rec(id)
  if not record or record.k ~= 't' then return false end
  local key = P .. 'b:' .. (record.c or id)
  if call('HSTRLEN', key, id .. ':r') > INLINE_LIMIT then return false end
  return call('HGET', key, id .. ':r')
end

-- Append what a dispatch needs to know of a signature and of the containers above it; a case gets its chooser's message.
describe = function(id)
  while id and not seen[id] do
    seen[id] = true
    local r = rec(id)
    if not r then return end
    local payload = call('HMGET', P .. 'b:' .. home(id), id, id .. ':m')
    -- A replacement has a message of its own.
    local above = r.c and rec(r.c) and rec(r.c).k ~= 't' and r.c or nil
    nodes[#nodes + 1] = { id, r.k, above or '', r.x or '', payload[1] or '', payload[2] or '', r['in'] or '',
      value_of(r['in']), r.ie or '', r.o or '' }
    if above and rec(above).k == 'w' and num(r, 'x') > 0 then describe(call('LINDEX', P .. 'm:' .. above, 0)) end
    id = above
  end
end

local function offer(id)
  local r = rec(id)
  rows[#rows + 1] = { id, num(r, 'd'), num(r, 'a'), num(r, 'of') }
  describe(id)
end

-- A row that was offered is looked at again: the longer it stands, the later, 5 minutes at the most.
local function look_again(id, age, at_least)
  call('ZADD', P .. 'out', int(now + math.min(300000, math.max(at_least, age / 2))), id)
end

local function row(id)
  local r = rec(id)
  local used = r.al and num(r, 'a') - num(r, 'al')
  put(id, { d = num(r, 'd') + 1, of = 0, a = used, al = used and 0 })
  call('ZADD', P .. 'out', int(now + OFFER_AFTER), id)
  offer(id)
end

local function live(id, amount)
  local root = top(id)
  if root and add(root, 'lv', amount) == 0 then continue((num(rec(root), 'rf') > 0 and '!y:' or '!x:') .. root) end
end

local function new_id()
  copies = copies + 1
  local alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
  local out, time = {}, now
  for i = 10, 1, -1 do
    local digit = time % 32
    out[i] = string.sub(alphabet, digit + 1, digit + 1)
    time = (time - digit) / 32
  end
  local digest = redis.sha1hex(op .. ':' .. copies)
  for i = 1, 16 do
    local digit = tonumber(string.sub(digest, i * 2 - 1, i * 2), 16) % 32
    out[10 + i] = string.sub(alphabet, digit + 1, digit + 1)
  end
  return table.concat(out)
end

-- Templates: a signature that is named as a callback, or that a map runs for each item, is kept while a record names it,
-- even if it ended by itself.
local function each_callback(id, visit)
  local lists = call('HMGET', P .. 'b:' .. home(id), id .. ':s', id .. ':f')
  for i = 1, 2 do
    for template in string.gmatch(lists[i] or '', '%S+') do visit(template) end
  end
  if rec(id).it then visit(rec(id).it) end
end

local function refer(template)
  if rec(template) then
    add(template, 'rf', 1)
    call('ZREM', P .. 'ix:p', template)
  end
end

local function forget(template)
  local record = rec(template)
  if not record or add(template, 'rf', -1) > num(record, 'ri') or record.c or record.tp then return end
  if ENDED[record.st] then
    if record.lv == '0' and not record.xt then continue('!x:' .. template) end
  elseif record.st == 'p' and not record.rd then
    if not record.mk then call('ZADD', P .. 'ix:p', int(now + NEW_TTL[record.k]), template) end
  end
end

-- What a signature is made of, its message aside: body, callbacks, the values of a switch's cases.
local PARTS = { '', ':s', ':f', ':v' }

local function copy_payload(source, from, target, to)
  local values, flat = {}, {}
  for i, suffix in ipairs(PARTS) do values[i] = source .. suffix end
  values = call('HMGET', from, unpack(values))
  for i, suffix in ipairs(PARTS) do
    local value = values[i] or (i == 1 and '{}')
    if value then flat[#flat + 1], flat[#flat + 2] = target .. suffix, value end
  end
  call('HSET', to, unpack(flat))
end

local function drop_payload(id, from) call('HDEL', from, id, id .. ':m', id .. ':s', id .. ':f', id .. ':v') end

local COPIED = { 'k', 'h', 'tn', 'nm', 'mc', 'sf', 'mt', 'os', 'cl', 'it' }

-- Copy one record and its payload, without its members. `fields` say where the copy hangs.
local function copy_node(source, target, fields)
  local r = rec(source)
  for _, name in ipairs(COPIED) do fields[name] = r[name] end
  fields.st, fields.t0 = 'p', now
  cache[target] = {}
  put(target, fields)
  copy_payload(source, P .. 'b:' .. home(source), target, P .. 'b:' .. home(target))
  each_callback(target, refer)
  budget = budget - 1
end

-- A page of the members of a container from a place on, and the place of the next; of a map, those that have a record.
local function page_of(id, from)
  if not rec(id).it then
    local members = call('LRANGE', P .. 'm:' .. id, from, from + PAGE - 1)
    return members, from + #members
  end
  local items = call('ZRANGEBYSCORE', P .. 'e:' .. id, from, '+inf', 'LIMIT', 0, PAGE)
  local _, last = item_of(items[#items] or '')
  return items, last and last + 1 or from
end

-- An item of a map gets a record: a copy of the template, with the item as its message.
local function give_record(map, index, message)
  local id = map .. '#' .. int(index)
  copy_node(rec(map).it, id, { c = map, rd = 1 })
  call('HSET', P .. 'b:' .. map, id .. ':m', message)
  call('ZADD', P .. 'e:' .. map, int(index), id)
  return id
end

-- The next item of a map; one that was steered while it waited has its record already.
local function next_item(map)
  local index = num(rec(map), 'nm') - call('LLEN', P .. 'i:' .. map)
  local message = call('LPOP', P .. 'i:' .. map)
  if not message then return end
  local id = map .. '#' .. int(index)
  if call('EXISTS', P .. 's:' .. id) == 1 then return id end
  return give_record(map, index, message)
end

-- An item that is done, and to which nothing else belongs, is kept as its result alone.
local function item_done(id)
  local map, index = item_of(id)
  local r, from = rec(id), P .. 'b:' .. map
  call('RPUSH', P .. 'y:' .. map, int(index))
  if r.by or call('EXISTS', P .. 'c:' .. id, P .. 'h:' .. id, P .. 'n:' .. id) > 0 then return end
  each_callback(id, forget)
  local key, field = place_of_item(map, index)
  call('HSET', key, field, call('HGET', from, id .. ':r'))
  drop_payload(id, from)
  call('HDEL', from, id .. ':r', id .. ':e', id .. ':i', id .. ':p')
  call('DEL', P .. 's:' .. id)
  call('ZREM', P .. 'e:' .. map, id)
  cache[id] = { v = true, c = map, k = 't', st = 'd', t0 = r.t0, rd = '1' }
end

-- Copy a page of the items that wait; in the end the copy has as many as there were.
local function copy_items(source, target, offset, list)
  local items = call('LRANGE', P .. 'i:' .. source, offset, offset + 99)
  budget = budget - 10
  if #items > 0 then
    call('RPUSH', P .. 'i:' .. target, unpack(items))
    call('LPUSH', list, source .. ' ' .. target .. ' ' .. int(offset + #items))
  else
    put(target, { nm = offset })
  end
end

-- Make the copies that k:<root> lists, an entry `source target offset` for the members of each container.
copy = function(root)
  local list = P .. 'k:' .. root
  while budget > 0 do
    local entry = call('LPOP', list)
    if not entry then
      call('ZREM', P .. 'out', '!k:' .. root)
      return push(ready, root)
    end
    local source, target, offset = string.match(entry, '^(%S+) (%S+) (%d+)$')
    offset = tonumber(offset)
    local last = math.min(offset + PAGE, num(rec(target), 'nm')) - 1
    if rec(target).it then
      copy_items(source, target, offset, list)
      last = -1
    end
    local members = offset <= last and call('LRANGE', P .. 'm:' .. source, offset, last) or {}
    local made = {}
    for i, member in ipairs(members) do
      local id = new_id()
      copy_node(member, id, { c = target, x = rec(target).k ~= 's' and offset + i - 1 or nil })
      made[i] = id
      if rec(member).k ~= 't' then call('RPUSH', list, member .. ' ' .. id .. ' 0') end
    end
    if #made > 0 then
      call('RPUSH', P .. 'm:' .. target, unpack(made))
      if rec(target).k == 's' then call('RPUSH', P .. 'w:' .. target, unpack(made)) end
      call('LPUSH', list, source .. ' ' .. target .. ' ' .. int(offset + #made))
    end
  end
  continue('!k:' .. root)
end

-- Start a fresh copy of each success (`s`) or error (`f`) callback; one that was canceled by name fires no more.
local function fire(id, which)
  local templates = call('HGET', P .. 'b:' .. home(id), id .. ':' .. which)
  for template in string.gmatch(templates or '', '%S+') do
    local source = rec(template)
    if source and source.mk ~= 'c' then
      local target = new_id()
      local fields = { o = id, rd = 1 }
      if which == 's' then fields['in'] = rec(id).rs or id else fields.ie = id end
      copy_node(template, target, fields)
      live(id, 1)
      call('RPUSH', P .. 'c:' .. id, target)
      if source.k == 't' then
        push(ready, target)
      else
        if source.k == 's' then put(target, { cl = 1 }) end
        call('RPUSH', P .. 'k:' .. target, template .. ' ' .. target .. ' 0')
        push(copy, target)
      end
    else
      call('HSET', P .. 'b:' .. home(id), id .. ':p', template)
    end
  end
end

local function index(id, from, to)
  local r = rec(id)
  if r.c or r.o then return end
  call('ZREM', P .. 'ix:' .. from, id)
  call('ZADD', P .. 'ix:' .. to, int(to == 'a' and now or now + DONE_TTL[r.k]), id)
end

-- A container that ends because one above it ended: once its walk is done and nothing below it is active.
settle = function(id)
  local r = rec(id)
  if r.st == 'a' and r.wc == 'x' and num(r, 'na') <= 0 then push(end_node, id, 'c', r.wr) end
end

local function all_ended(r) return num(r, 'nd') + num(r, 'nf') + num(r, 'nc') >= num(r, 'nm') end

-- What is held gives back its slot once nothing below it is dispatched or runs; so do the held containers above it.
local function give_back_slots(id)
  local r = rec(id)
  if r.k == 's' and call('SCARD', P .. 'l:' .. id) > 0 then return end
  while r.c do
    local above, container = r.c, rec(r.c)
    if container.k == 's' then
      if not held(id) or container.st ~= 'a' then return end
      if call('SREM', P .. 'l:' .. above, id) == 1 then
        put(id, { sl = 0 })
        call('SADD', P .. 'g:' .. above, id)
        push(refill, above)
      end
      if call('SCARD', P .. 'l:' .. above) > 0 then return end
    end
    id, r = above, container
  end
end

local function ask_for_slot(id)
  if rec(id).sl ~= '0' then return end
  put(id, { sl = 'q' })
  call('LPUSH', P .. 'q:' .. rec(id).c, id)
  push(refill, rec(id).c)
end

-- Whether a container above gave its slot back: then what would move here waits until it has another.
local function waits_for_slot(id)
  local container = without_slot(id)
  if not container then return false end
  if not rec(id).hd then
    put(id, { hd = 1 })
    if container ~= id then call('RPUSH', P .. 'h:' .. container, id) end
  end
  ask_for_slot(container)
  return true
end

-- A signature waits for the end of a hold.
hold = function(id, node)
  if not rec(id).hd then
    put(id, { hd = 1 })
    call('RPUSH', P .. 'h:' .. node, id)
  end
  give_back_slots(id)
end

local function free_slots(id, run)
  local record = rec(id)
  while record and record.c do
    if call('SREM', P .. 'l:' .. record.c, id .. '~' .. run) == 1 then push(refill, record.c) end
    record = rec(record.c)
  end
end

-- The last report of a run that was overtaken, or its lapse.
local function overtaken_over(id, run)
  if call('ZREM', P .. 'runs', id .. '~' .. run) == 1 then free_slots(id, run) end
  drain()
end

-- Begin to cancel the members of a container from `from` on. Those that have not started count as canceled from now on,
-- the others when the walk comes to them or they end.
local function begin_walk(id, reason, stop, from)
  local r = rec(id)
  local fields = { wr = r.wr or reason, wi = stop and 1 or 0, wc = from or 0 }
  if r.k == 's' and not r.wc then
    fields.nc = num(r, 'nm') - num(r, 'nd') - num(r, 'nf') - num(r, 'na')
    call('ZREM', P .. 'out', '!a:' .. id)
  end
  put(id, fields)
  if stop and r.t1 then keep_slots(id, 'w') end
  push(walk, id)
end

-- A container is complete; under a mark it ends, and fires callbacks, at resume. Returns whether it ended.
local function complete(id, st)
  local mark, node = held(id)
  if mark and mark ~= 'c' then
    put(id, { po = st })
    hold(id, node)
    return false
  end
  push(end_node, id, st)
  return true
end

-- Fail a container whose error is known: what has not started of it from `from` on is canceled.
local function fail(id, from)
  if not complete(id, 'f') or rec(id).k == 't' then return end
  if rec(id).k == 's' then
    begin_walk(id, 'swarm_failed', rec(id).os == 'interrupt')
  else
    begin_walk(id, 'skipped', false, from)
  end
end

-- Fail a swarm: `source` is where its error is to be found.
local function fail_swarm(id, source)
  put(id, { es = source })
  fail(id)
end

local function chain_goes_on(id, member, st)
  local r = rec(id)
  if st == 'd' then
    local next_id = call('LINDEX', P .. 'm:' .. id, num(rec(member), 'x') + 1)
    local leaf = rec(member).rs or member
    if next_id then
      rec(next_id)
      put(next_id, { ['in'] = leaf, rd = 1 })
      push(ready, next_id)
    else
      put(id, { rs = leaf })
      complete(id, 'd')
    end
  else
    put(id, { es = rec(member).es or member })
    fail(id, num(rec(member), 'x') + 1)
  end
end

local function switch_done(id)
  if complete(id, 'd') then begin_walk(id, 'skipped', false, 1) end
end

-- The place of the case that equals a choice, or of the default; a switch lists its values, JSON, a line each.
local function place_of(id, choice)
  local place, default = 0, nil
  for line in string.gmatch(call('HGET', P .. 'b:' .. home(id), id .. ':v') .. '\n', '(.-)\n') do
    place = place + 1
    if line == '' then default = place elseif short(line) == choice then return place end
  end
  return default
end

local function switch_goes_on(id, member, st)
  local leaf = rec(member).rs or member
  if st ~= 'd' then
    put(id, { es = rec(member).es or member })
    return fail(id, 1)
  elseif num(rec(member), 'x') > 0 then
    put(id, { rs = leaf })
    return switch_done(id)
  end
  local choice = rec(leaf).ch
  local place = place_of(id, choice)
  if not place then
    local text = 'no case equals the result ' .. (choice or 'of the chooser, which is no bool, int or str')
    call('HSET', P .. 'b:' .. home(id), id .. ':e', '{"type":"NoCaseError","message":' .. cjson.encode(text) .. '}')
    put(id, { es = id })
    return fail(id, 1)
  end
  local case = call('LINDEX', P .. 'm:' .. id, place)
  rec(case)
  put(id, { cx = place })
  put(case, { rd = 1 })
  push(ready, case)
end

local function budget_used_up(r) return r.sf and num(r, 'nf') + num(r, 'nc') >= tonumber(r.sf) end

local function swarm_goes_on(id, member, st)
  add(id, 'n' .. st, 1)
  if st ~= 'd' and budget_used_up(rec(id)) then return fail_swarm(id, rec(member).es or member) end
  push(refill, id)
end

-- What the end of a member means for its container.
local function child_ended(id, member, st, was)
  local r = rec(id)
  if not r then return end
  if r.k == 't' then return replaced_ended(rec(member).fo or id, member) end
  local above, stop = dead(id)
  if above and r.st == 'a' and not r.wc then begin_walk(id, rec(above).wr, stop) end
  if was == 'a' then add(id, 'na', -1) end
  if r.k == 's' then
    call('SREM', P .. 'l:' .. id, member)
    if rec(member).sl then call('SREM', P .. 'g:' .. id, member) end
  end
  if r.wc then
    -- What had not started was counted when the walk began.
    if st == 'c' and was == 'a' and r.k == 's' then add(id, 'nc', 1) end
    return settle(id)
  end
  if r.k == 's' and (r.po or r.st == 'p') then
    add(id, 'n' .. st, 1)
    if r.st == 'p' and st ~= 'd' then put(id, { es = rec(member).es or member }) end
    if r.po then push(refill, id) end
  end
  if r.po or r.st ~= 'a' then return end
  if r.k == 's' then return swarm_goes_on(id, member, st) end
  if r.k == 'w' then switch_goes_on(id, member, st) else chain_goes_on(id, member, st) end
end

-- What an ended signature held goes on, or ends too.
local function work_off_held(id)
  if call('EXISTS', P .. 'h:' .. id) == 1 then continue('!h:' .. id) end
end

-- Record the end of a signature; callbacks fire unless it is canceled.
end_node = function(id, st, reason)
  local r = rec(id)
  if ENDED[r.st] then return end
  local was = r.st
  if st ~= 'c' and held(id) == 'c' then st, reason = 'c', 'canceled' end
  put(id, { st = st, t2 = now, re = reason })
  if r.mk then call('ZREM', P .. 'out', '!u:' .. id) end
  if r.du then call('ZREM', P .. 'out', '!d:' .. id) end
  work_off_held(id)
  if st ~= 'c' then fire(id, st == 'd' and 's' or 'f') end
  if st == 'c' and r.by then
    put(id, { wr = reason, wi = 1 })
    push(end_replacement, r.by, reason)
  end
  if r.k == 's' then
    call('ZREM', P .. 'out', '!a:' .. id, '!r:' .. id)
    call('UNLINK', P .. 'q:' .. id, P .. 'w:' .. id, P .. 'o:' .. id, P .. 'l:' .. id, P .. 'g:' .. id)
  elseif r.k == 't' and num(r, 'n') > 1 and call('EXISTS', P .. 'n:' .. id) == 1 then
    continue('!n:' .. id)
  end
  if r.c then
    child_ended(r.c, id, st, was)
    return st == 'd' and rec(r.c) and rec(r.c).it and item_done(id)
  end
  index(id, r.lv and 'a' or 'p', st)
  if not r.lv and not r.o then add(id, 'lv', 1) end
  call('PUBLISH', P .. 'ended', id)
  live(id, -1)
end

-- The run of a signature is over: its last report came, or its lease lapsed. Returns whether it was still counted.
local function release(id)
  if call('ZREM', P .. 'runs', id) == 0 then return false end
  free_slots(id, rec(id).n)
  return true
end

-- What does not run any more below an ended container is canceled. Returns whether it was so.
local function drop(id)
  local above = dead(id)
  if not above then return false end
  call('ZREM', P .. 'out', id)
  end_node(id, 'c', rec(above).wr)
  return true
end

local function cancel_member(id, reason, stop)
  local r = rec(id)
  budget = budget - 1
  if r.mk then work_off_held(id) end
  if r.st == 'p' then
    if r.rd then call('ZREM', P .. 'out', id) end
    put(id, { st = 'c', t2 = now, re = reason })
  elseif r.k ~= 't' then
    -- Below a container that failed earlier there may be runs that were to finish, and now are to stop.
    if (r.st == 'a' and not r.wc) or (r.wc and stop and r.wi ~= '1') then begin_walk(id, reason, stop) end
  elseif r.st == 'a' then
    local runs = call('ZSCORE', P .. 'runs', id)
    local other = awaits_other(r) and rec(r.by)
    if other and not ENDED[other.st] then
      if not stop then return end_replacement(r.by, reason, true) end
      put(id, { wr = reason, wi = 1 })
      push(end_replacement, r.by, reason)
    end
    if runs and not stop then return end
    if runs then keep_slots(id, r.n) end
    call('ZREM', P .. 'out', id)
    put(id, { st = 'c', t2 = now, re = reason })
    add(r.c, 'na', -1)
    if rec(r.c).k == 's' then add(r.c, 'nc', 1) end
  end
end

-- Cancel the members of a container that has not started, stop those that run where it says so.
walk = function(id)
  local r = rec(id)
  while budget > 0 and r.wc ~= 'x' do
    local members, behind = page_of(id, num(r, 'wc'))
    for _, member in ipairs(members) do
      -- A removed flow may be gone before its walk is through.
      if rec(member) then cancel_member(member, r.wr, r.wi == '1') end
    end
    put(id, { wc = #members < PAGE and 'x' or behind })
  end
  if r.wc ~= 'x' then return continue('!c:' .. id) end
  call('ZREM', P .. 'out', '!c:' .. id)
  if r.wi == '1' then free_slots(id, 'w') end
  settle(id)
end

-- What waited for the own run of a swarm, or for its close, becomes ready. Swarms among it that one of their members
-- opened have their own run by that.
local function run_waiting(id)
  local waiting = call('LLEN', P .. 'w:' .. id)
  if waiting > 0 then call('RPUSH', P .. 'q:' .. id, '*' .. int(waiting)) end
  push(refill, id)
  push(run_opened, id)
end

local function run_own(id)
  local r = rec(id)
  if r.own ~= '0' or ENDED[r.st] then return end
  put(id, { own = 1 })
  if r.st == 'a' then run_waiting(id) end
end

run_opened = function(id)
  while budget > 0 do
    local member = call('LPOP', P .. 'o:' .. id)
    if not member then return call('ZREM', P .. 'out', '!o:' .. id) end
    budget = budget - 1
    run_own(member)
  end
  continue('!o:' .. id)
end

-- A signature that no mark holds any more, with the slots that it needs, goes on where it stopped.
local function go_on(id)
  local r = rec(id)
  drop_fields(id, 'hd')
  if call('EXISTS', P .. 'h:' .. id) == 1 then continue('!h:' .. id) end
  if r.po then
    local outcome = r.po
    drop_fields(id, 'po')
    if outcome == 'f' then
      fail(id, 0)
    elseif r.k == 'w' then
      switch_done(id)
    else
      complete(id, outcome)
    end
  elseif r.st == 'p' then
    push(ready, id)
  elseif r.k == 't' then
    if not awaits_other(r) and not call('ZSCORE', P .. 'runs', id) and not call('ZSCORE', P .. 'out', id) then row(id) end
  elseif r.k == 's' then
    push(refill, id)
  end
end

-- The mark that held a signature is gone, or the slot that it waited for is there: look again.
local function unhold(id)
  local r = rec(id)
  if not r or not r.hd then return end
  budget = budget - 1
  if ENDED[r.st] or drop(id) then return end
  local mark, node = held(id)
  if mark == 'c' then return end_canceled(id) end
  if mark then return call('LPUSH', P .. 'h:' .. node, id) end
  local container = without_slot(id)
  if not container or (container == id and r.po) then return go_on(id) end
  if container ~= id then call('LPUSH', P .. 'h:' .. container, id) end
  ask_for_slot(container)
end

-- Work off what a mark held, the last first: each goes to the front of its queue, so the order stays. What is marked again
-- by now holds all that is left.
local function release_held(id)
  local list, r = P .. 'h:' .. id, rec(id)
  if not ENDED[r.st] and not r.po and (r.mk == 's' or r.mk == 'i') then return call('ZREM', P .. 'out', '!h:' .. id) end
  local left = call('LLEN', list)
  while budget > 0 and left > 0 do
    unhold(call('RPOP', list))
    left = left - 1
  end
  -- What is left of a node that waits for its slot goes on when that is there.
  local waits = left > 0 and without_slot(id) == id and not r.po and not ENDED[r.st]
  if left > 0 and not waits then return continue('!h:' .. id) end
  call('ZREM', P .. 'out', '!h:' .. id)
  if waits then
    for _ = 1, call('LLEN', list) - left do call('LMOVE', list, list, 'LEFT', 'RIGHT') end
    call('LREM', list, 0, id)
    ask_for_slot(id)
  end
end

-- The next member in the queue of a swarm, or nothing. One that was started by itself may be in there twice. Items of a
-- map stand behind all others.
local function next_ready(id)
  while budget > 0 do
    local entry = call('LPOP', P .. 'q:' .. id)
    if not entry then return rec(id).it and next_item(id) end
    budget = budget - 1
    if string.sub(entry, 1, 1) ~= '*' then return entry end
    local left = tonumber(string.sub(entry, 2)) - 1
    local member = call('LPOP', P .. 'w:' .. id)
    if member and left > 0 then call('LPUSH', P .. 'q:' .. id, '*' .. int(left)) end
    if member then
      if not rec(member).rd then put(member, { rd = 1 }) end
      return member
    end
  end
end

-- End a signature that has not moved as canceled: by a mark above, or by `reason`.
end_canceled = function(id, reason)
  local r = rec(id)
  end_node(id, 'c', reason or 'canceled')
  if r.k ~= 't' and num(r, 'nm') > 0 then begin_walk(id, reason or 'canceled', true) end
end

-- A member that waited for another slot gets one, unless it is held again by now.
local function take_slot_again(id, member)
  local mark, node = held(member)
  if mark then
    drop_fields(member, 'hd')
    put(member, { sl = 0 })
    hold(member, node)
    return false
  end
  if call('SADD', P .. 'l:' .. id, member) == 0 then return false end
  drop_fields(member, 'sl')
  call('SREM', P .. 'g:' .. id, member)
  go_on(member)
  return true
end

-- Fill the free slots of a swarm; end it when there is nothing left to wait for.
refill = function(id)
  local r = rec(id)
  if r.st ~= 'a' or dead(id) then return end
  if r.po then return give_back_slots(id) end
  local mark, node = held(id)
  if mark == 'c' then return end_canceled(id) end
  if mark then return hold(id, node) end
  if waits_for_slot(id) then return end
  local bound = r.mc and tonumber(r.mc) or math.huge
  local slots = call('SCARD', P .. 'l:' .. id)
  while slots < bound do
    local member = next_ready(id)
    if not member then break end
    if ENDED[rec(member).st] then
      budget = budget - 1
    elseif rec(member).sl == 'q' then
      if take_slot_again(id, member) then slots = slots + 1 end
    elseif rec(member).st == 'p' and not rec(member).sl and call('SADD', P .. 'l:' .. id, member) == 1 then
      slots = slots + 1
      push(ready, member)
    end
  end
  if slots < bound and call('EXISTS', P .. 'q:' .. id, P .. 'i:' .. id) > 0 then return continue('!r:' .. id) end
  if r.cl == '1' then
    if all_ended(r) then complete(id, 'd') end
  elseif slots == 0 then
    put(id, { ac = now })
    call('ZADD', P .. 'out', int(now + NEW_TTL.s), '!a:' .. id)
  end
end

local function activate(id, own)
  local r = rec(id)
  put(id, { st = 'a', t1 = now, rd = 1, own = own })
  if r.c then add(r.c, 'na', 1) end
  if r.k ~= 's' then
    local member = call('LINDEX', P .. 'm:' .. id, 0)
    rec(member)
    put(member, { rd = 1 })
    push(ready, member)
  else
    -- Members that were canceled before count.
    if budget_used_up(r) then return fail_swarm(id, r.es) end
    if own == 1 then run_waiting(id) else push(refill, id) end
  end
end

-- A signature may start: a task gets a row of the outbox, a container opens.
ready = function(id, own)
  local r = rec(id)
  if r.st ~= 'p' then
    -- A member of a chain or switch that was canceled before its turn fails it when its turn comes.
    if r.st == 'c' and r.c and rec(r.c).k ~= 's' then child_ended(r.c, id, 'c', 'p') end
    return
  end
  budget = budget - 1
  if not r.c and not r.o and not r.lv then
    index(id, 'p', 'a')
    add(id, 'lv', 1)
  end
  local mark, node = held(id)
  if mark == 'c' then return end_canceled(id) end
  if mark then return hold(id, node) end
  if waits_for_slot(id) then return end
  if num(r, 'du') > now then return call('ZADD', P .. 'out', r.du, '!d:' .. id) end
  if r.k ~= 't' then return activate(id, r.own == '0' and 0 or 1) end
  row(id)
end

-- Cancel a signature and what is below it: nothing more starts, what runs is stopped, no callbacks fire.
local function cancel(id)
  local r = rec(id)
  if ENDED[r.st] then return end
  put(id, { mk = 'c', sp = call('INCR', P .. 'stamp') })
  call('ZREM', P .. 'out', id, '!u:' .. id)
  if call('ZSCORE', P .. 'runs', id) then keep_slots(id, r.n) end
  local waits = r.c and rec(r.c).k ~= 's' and not r.rd
  if waits then
    put(id, { st = 'c', t2 = now, re = 'canceled' })
  else
    end_node(id, 'c', 'canceled')
  end
  if r.k ~= 't' and num(r, 'nm') > 0 then begin_walk(id, 'canceled', true) end
  work_off_held(id)
  if r.t1 and r.k ~= 't' then
    call('RPUSH', P .. 'f:' .. id, id .. ' 0')
    continue('!f:' .. id)
  end
end

-- A task that was stopped, or lost its worker, is ready again: with a row, or on the list of what holds it.
ready_again = function(id)
  if drop(id) then return end
  local mark, node = held(id)
  if mark == 'c' then return end_canceled(id) end
  if mark then return hold(id, node) end
  if not waits_for_slot(id) then row(id) end
end

-- Cancel what replaced a task that is canceled: all of it, or what does not run (`spare`).
end_replacement = function(id, reason, spare)
  local r = rec(id)
  if not r or ENDED[r.st] then return end
  if awaits_other(r) and spare then return end_replacement(r.by, reason, true) end
  local runs = call('ZSCORE', P .. 'runs', id)
  if spare and r.k ~= 't' and r.st == 'a' then
    return not r.wc and begin_walk(id, reason, false)
  elseif spare and runs then
    return
  end
  call('ZREM', P .. 'out', id)
  if runs then keep_slots(id, r.n) end
  end_canceled(id, reason)
end

-- The result of the signature that replaced a task is the task's; where it is to be checked, the task gets a row for that.
local function accept_result(id, source, choice)
  put(id, { rs = source, ch = choice })
  if rec(id).ck ~= '1' or dead(id) then return complete(id, 'd') end
  put(id, { ck = 2 })
  ready_again(id)
end

-- The signature that replaced a task has ended: so does the task.
replaced_ended = function(id, by)
  local r, other = rec(id), rec(by)
  if not r or ENDED[r.st] then return end
  if budget <= 0 then return continue('!e:' .. by) end
  budget = budget - 1
  if (other.st == 'c' or held(id)) and drop(id) then return end
  if other.st ~= 'd' then
    put(id, { es = other.es or by })
    return complete(id, 'f')
  end
  local source = other.rs or by
  accept_result(id, source, rec(source) and rec(source).ch)
end

local function answer(status, extra) return { status, rows, nodes, continues, extra or {} } end

-- What a report is answered where it changes nothing: its signature is gone, it was recorded before, its run was overtaken,
-- or it was of an item that has no record any more.
local function answer_at_once(id, run)
  local r = rec(id)
  if not r then return answer('gone') end
  if r.op == op then return answer('recorded') end
  if r.n == run then return nil end
  overtaken_over(id, run)
  return answer(r.v and 'ended' or 'superseded')
end

-- The end of what a report does; `counted`: its run kept the root alive until now.
local function answer_report(id, counted, status)
  drain()
  if counted then live(id, -1) end
  return answer(status)
end
