--[[ Write a block of changes in one step: new signatures, members, messages, starts, closes, changed arguments.

ARGV[3..] is a sequence of verbs, each with a fixed number of values (`*` stands for a count and so many values):
  draft id begun                                  what follows are parts: nothing leads to them before they are published
  node id kind container x fields body message success failure cases   a new signature; fields: name\31value\31...
                                                  cases: of a switch, the values as JSON, a line each, an empty one: default
  claim id container x message                    an existing signature becomes a member (of a swarm: an add follows)
  members container waiting *ids                  appends to the members of a container still to be written; waiting: a swarm's
  publish draft *ids                              the parts are complete; ids: the new signatures without a container
  add swarm close_on_max run *ids                 new or claimed members of an existing swarm; run: ready at once
  items map producer first *messages              items for a map; producer: its earlier run may have added them, `first`
                                                  is how many it added before these, or nothing
  message id message
  run id delay at                                 start it: so many ms from now, or at this time in ms, if any
  close swarm
  patch id mark line                              one line is appended to its body; mark: stands in the line, so that a later run
                                                  of the task that made the change is told from a change that comes too late
  steer id verb                                   suspend, interrupt, resume, cancel or remove; of no effect on what has ended
  asked task run *ids                             comes last: this run of a task asked for these signatures, now or again
Returns {'ok', rows, nodes, continues, heights}, or {'refused', ..., {code, id, detail}}: then nothing was changed.
Invariant: all checks come before the first write; a repeat of an operation changes nothing.
]]
local LIMIT = 64
local at, changes = 3, {}

local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function take_list()
  local list = {}
  for i = 1, tonumber(take()) do list[i] = take() end
  return list
end

local SHAPES = {
  draft = { 'id', 'begun' }, publish = { 'id', '*' }, run = { 'id', 'delay', 'at' }, close = { 'id' }, message = { 'id', 'text' },
  patch = { 'id', 'mark', 'text' }, claim = { 'id', 'container', 'x', 'message' }, members = { 'id', 'waiting', '*' },
  add = { 'id', 'close_on_max', 'run', '*' }, items = { 'id', 'producer', 'first', '*' }, asked = { 'id', 'run', '*' }, steer = { 'id', 'verb_of' },
  node = { 'id', 'kind', 'container', 'x', 'fields', 'body', 'message', 'success', 'failure', 'cases' },
}

while at <= #ARGV do
  local change = { verb = take() }
  for _, name in ipairs(SHAPES[change.verb]) do
    if name == '*' then change.ids = take_list() else change[name] = take() end
  end
  changes[#changes + 1] = change
end

local new, heights, swarms, claimed, started = {}, {}, {}, {}, {}
local draft, publishing

local function refuse(code, id, detail) return { 'refused', {}, {}, {}, { code, id, detail or '' } } end

local function depth(id)
  local levels = 0
  while id do
    levels = levels + 1
    local record = rec(id)
    id = record and (record.c or record.o)
  end
  return levels
end

local function raise_height(container, child)
  if container ~= '' then heights[container] = math.max(heights[container] or 1, (heights[child] or 1) + 1) end
end

local check = {}

local function taken_back(id)
  if not call('ZSCORE', P .. 'drafts', id) then return refuse('broken', id, 'its draft took too long, it was taken back') end
end

function check.draft(change)
  draft = change.id
  if change.begun == '1' then return taken_back(draft) end
end

function check.publish(change)
  publishing = change.id
  return taken_back(publishing)
end

-- From its check on a new signature has a record, so that later verbs of the block find it.
function check.node(change)
  local record = { k = change.kind, st = 'p' }
  for name, value in string.gmatch(change.fields, '([^\31]+)\31([^\31]+)') do record[name] = value end
  if change.container ~= '' then record.c = change.container end
  cache[change.id], new[change.id] = record, change
  local height = math.max(heights[change.id] or 1, tonumber(string.match(change.fields, '^h\31(%d+)') or 1))
  for _, list in ipairs({ change.success, change.failure, record.it or '' }) do
    for template in string.gmatch(list, '%S+') do
      local record = rec(template)
      if not record then return refuse('not_found', template) end
      if item_of(template) then return refuse('illegal', template, 'it is an item of a map, no callback: name a copy of it') end
      height = math.max(height, (heights[template] or num(record, 'h')) + 1)
    end
  end
  if record.it and rec(record.it).k ~= 't' then
    return refuse('illegal', record.it, 'a map runs a task for each item, no container')
  end
  heights[change.id] = height
  if height > LIMIT then return refuse('too_deep', change.id) end
  raise_height(change.container, change.id)
end

function check.claim(change)
  local id, container = change.id, change.container
  local record = rec(id)
  if not record then return refuse('not_found', id) end
  local above = container
  while above and rec(above) do
    if above == id then return refuse('cycle', id, container) end
    above = rec(above).c or claimed[above]
  end
  if record.c or record.o or claimed[id] then
    return refuse('already_in_container', id, record.c or record.o or claimed[id])
  end
  if record.st ~= 'p' or record.rd then return refuse('already_started', id) end
  if not new[id] and call('HEXISTS', P .. 'b:' .. id, id) == 0 then
    return refuse('broken', id, 'it has no body')
  end
  claimed[id] = container
  heights[id] = num(record, 'h')
  raise_height(container, id)
end

local function foreign_draft(record)
  return record.dr and record.dr ~= publishing and call('ZSCORE', P .. 'drafts', record.dr)
end

-- Why a member cannot open the swarms from this one upwards, if so. Below a chain it waits for the turn of its swarm.
local function closed_above(record)
  while record and record.st == 'p' and not record.rd and record.c do
    local above = rec(record.c)
    if not above or foreign_draft(record) then return 'a container above is being written' end
    if above.k ~= 's' then return end
    record = above
  end
end

local function swarm_state(id)
  local record = rec(id)
  if not swarms[id] and record then
    swarms[id] = { total = num(record, 'nm'), closed = record.cl == '1', limit = tonumber(record.mt) }
  end
  return swarms[id], record
end

local function cannot_take(id, swarm, record, count)
  local status = ended(record, id)
  if status == 'c' then return refuse('swarm_canceled', id) end
  if status or swarm.closed then return refuse('swarm_closed', id) end
  swarm.total = swarm.total + count
  if swarm.limit and swarm.total > swarm.limit then return refuse('too_many', id, int(swarm.limit)) end
end

function check.items(change)
  local map, record = swarm_state(change.id)
  if not map then return refuse('not_found', change.id) end
  if not record.it then return refuse('illegal', change.id, 'it is no map') end
  change.known = 0
  if change.producer ~= '' then
    local added = tonumber(call('HGET', P .. 'b:' .. change.id, 'p:' .. change.producer) or 0)
    change.known = math.max(0, math.min(#change.ids, added - tonumber(change.first)))
  end
  return change.known < #change.ids and cannot_take(change.id, map, record, #change.ids - change.known) or nil
end

function check.add(change)
  local swarm, record = swarm_state(change.id)
  if not swarm then return refuse('not_found', change.id) end
  if record.k ~= 's' then return refuse('not_a_swarm', change.id) end
  if record.it then return refuse('illegal', change.id, 'it is a map: it takes items') end
  local refused = cannot_take(change.id, swarm, record, #change.ids)
  if refused then return refused end
  if change.run == '1' and closed_above(record) then return refuse('illegal', change.id, closed_above(record)) end
  change.closes = change.close_on_max == '1' and swarm.total == swarm.limit
  swarm.closed = change.closes
  local above = depth(change.id)
  for _, id in ipairs(change.ids) do
    local part = rec(id)
    local ours = claimed[id] == change.id or (new[id] and new[id].container == change.id)
    if not ours and not (part and part.dr and part.dr == publishing) then return refuse('not_found', id) end
    heights[id] = heights[id] or num(part, 'h')
    if above + heights[id] > LIMIT then return refuse('too_deep', id) end
    raise_height(change.id, id)
  end
end

function check.run(change)
  local record = rec(change.id)
  if not record then return refuse('not_found', change.id) end
  local above = record.c or claimed[change.id]
  local container = above and rec(above)
  if above and (foreign_draft(record) or not container) then
    return refuse('illegal', change.id, 'it is being added to a container')
  end
  if container and (container.k ~= 's' or container.it) then
    return refuse('illegal', change.id, 'its container starts it')
  end
  local opens = record.k == 's' and record.own == '0' and not ENDED[record.st]
  local status = ended(record, change.id)
  if status == 'c' then return refuse('illegal', change.id, 'it is canceled') end
  if (record.st ~= 'p' or record.rd or started[change.id]) and not opens then
    return refuse('already_started', change.id)
  end
  change.due = tonumber(change.at) or now + tonumber(change.delay)
  if change.due > now and (container or opens) then
    return refuse('illegal', change.id, 'only the start of a whole flow can be put off')
  end
  started[change.id] = true
  if closed_above(container) then return refuse('illegal', change.id, closed_above(container)) end
end

function check.close(change)
  local swarm, record = swarm_state(change.id)
  if not swarm then return refuse('not_found', change.id) end
  if record.k ~= 's' then return refuse('not_a_swarm', change.id) end
  swarm.closed = true
end

function check.steer(change)
  local id, verb, record = change.id, change.verb_of, rec(change.id)
  if not record then return refuse('not_found', id) end
  if (record.c and not rec(record.c)) or foreign_draft(record) then
    return refuse('illegal', id, 'it is being added to a container')
  end
  local running = record.k == 't' and call('ZSCORE', P .. 'runs', id)
  if verb == 'suspend' and running and not record.mk and not ended(record, id) then return refuse('running', id) end
  if verb ~= 'remove' then return end
  if record.c or record.o or claimed[id] then return refuse('illegal', id, 'it is a part of a flow') end
  if num(record, 'rf') > 0 then return refuse('illegal', id, 'a signature names it as a callback') end
end

function check.patch(change)
  local record = rec(change.id)
  if not record then return refuse('not_found', change.id) end
  local over = ended(record, change.id)
  local open = record.k ~= 't' or (record.st == 'p' and not call('ZSCORE', P .. 'out', change.id))
  if not over and open then return end
  local body = call('HGET', P .. 'b:' .. home(change.id), change.id)
  change.known = change.mark ~= '' and body and string.find(body, change.mark, 1, true)
  if change.known then return end
  return refuse('too_late', change.id, over or held(change.id) or (record.st == 'a' and 'a' or ''))
end

-- An earlier run of the task may have made them: they are asked for again.
local function note_asked(change)
  if not rec(change.id) then return end
  for _, id in ipairs(change.ids) do
    if rec(id) then call('ZADD', P .. 'n:' .. change.id, 'GT', change.run, id) end
  end
end

-- Whether all of this was written before.
local function repeated()
  if call('EXISTS', P .. 'op:' .. op) == 1 then return true end
  local draft_of = changes[1].verb == 'draft' and changes[1].id
  if draft_of and call('LINDEX', P .. 'dr:' .. draft_of, -1) == '~' .. op then return true end
  for _, change in ipairs(changes) do
    if change.verb == 'node' then return rec(change.id) ~= nil end
  end
end

if repeated() then
  if changes[#changes].verb == 'asked' then note_asked(changes[#changes]) end
  return answer('ok')
end
for _, change in ipairs(changes) do
  local refused = check[change.verb] and check[change.verb](change)
  if refused then return refused end
end

local write = { asked = note_asked }

function write.draft(change)
  call('ZADD', P .. 'drafts', int(now + 600000), change.id)
end

function write.publish(change)
  call('UNLINK', P .. 'dr:' .. change.id)
  call('ZREM', P .. 'drafts', change.id)
  for _, id in ipairs(change.ids) do
    local fields = call('HMGET', P .. 's:' .. id, 'k', 'rf', 'c')
    if tonumber(fields[2] or 0) == 0 and not fields[3] then
      call('ZADD', P .. 'ix:p', int(now + NEW_TTL[fields[1]]), id)
    end
  end
end

function write.node(change)
  local id = change.id
  local fields = { k = change.kind, st = 'p', t0 = now, h = heights[id] }
  for name, value in string.gmatch(change.fields, '([^\31]+)\31([^\31]+)') do
    if name ~= 'h' then fields[name] = value end
  end
  if change.container ~= '' then
    fields.c = change.container
    if change.x ~= '' then fields.x = change.x end
    fields.dr = draft
  end
  cache[id] = {}
  put(id, fields)
  local payload = { id, change.body }
  local texts = { [':m'] = change.message, [':s'] = change.success, [':f'] = change.failure, [':v'] = change.cases }
  for suffix, text in pairs(texts) do
    if text ~= '' then payload[#payload + 1], payload[#payload + 2] = id .. suffix, text end
  end
  call('HSET', P .. 'b:' .. home(id), unpack(payload))
  each_callback(id, refer)
  if not fields.c and not draft then call('ZADD', P .. 'ix:p', int(now + NEW_TTL[change.kind]), id) end
  if draft then call('RPUSH', P .. 'dr:' .. draft, id) end
end

-- An existing signature moves below a container, its payload into the hash of that container.
function write.claim(change)
  local id, from, to = change.id, P .. 'b:' .. change.id, P .. 'b:' .. change.container
  put(id, { c = change.container, x = change.x ~= '' and change.x or nil, dr = draft })
  copy_payload(id, from, id, to)
  if change.message ~= '' then call('HSET', to, id .. ':m', change.message) end
  drop_payload(id, from)
  call('ZREM', P .. 'ix:p', id)
  if rec(id).mk then call('ZREM', P .. 'out', '!u:' .. id) end
  if draft then call('RPUSH', P .. 'dr:' .. draft, '<' .. id) end
end

local function append(key, ids)
  for from = 1, #ids, 5000 do call('RPUSH', key, unpack(ids, from, math.min(from + 4999, #ids))) end
end

function write.members(change)
  append(P .. 'm:' .. change.id, change.ids)
  if change.waiting == '1' then append(P .. 'w:' .. change.id, change.ids) end
end

local function set_height(id)
  while id and rec(id) and num(rec(id), 'h') < (heights[id] or 0) do
    put(id, { h = heights[id] })
    local above = rec(id).c
    if above then heights[above] = math.max(heights[above] or 0, heights[id] + 1) end
    id = above
  end
end

-- The swarm that a member was started in opens for it, and so do the swarms above, up to one that a chain starts.
local function open(id)
  local r = rec(id)
  if r.st ~= 'p' or r.rd or (r.c and rec(r.c).k ~= 's') then return end
  put(id, { rd = 1, own = 0 })
  if r.c then
    call('RPUSH', P .. 'q:' .. r.c, id)
    call('RPUSH', P .. 'o:' .. r.c, id)
    open(r.c)
    push(refill, r.c)
  else
    push(ready, id)
  end
end

local function start(id, due)
  local r = rec(id)
  if r.own == '0' and r.rd then return run_own(id) end
  put(id, { rd = 1, du = due > now and due or nil })
  if not r.c then return push(ready, id) end
  call('RPUSH', P .. 'q:' .. r.c, id)
  open(r.c)
  push(refill, r.c)
end

local function close(id)
  if rec(id).cl == '1' or ENDED[rec(id).st] then return end
  put(id, { cl = 1 })
  call('ZREM', P .. 'out', '!a:' .. id)
  if rec(id).own == '1' and rec(id).st == 'a' then run_waiting(id) else push(refill, id) end
end

function write.add(change)
  local id = change.id
  if change.run == '1' then
    for _, member in ipairs(change.ids) do put(member, { rd = 1 }) end
  end
  set_height(id)
  append(P .. 'm:' .. id, change.ids)
  append(P .. (change.run == '1' and 'q:' or 'w:') .. id, change.ids)
  put(id, { nm = num(rec(id), 'nm') + #change.ids, ac = now })
  if change.run == '1' then
    open(id)
    push(refill, id)
  end
  if change.closes then close(id) end
end

function write.items(change)
  local id, count = change.id, #change.ids - change.known
  if count == 0 then return end
  append(P .. 'i:' .. id, { unpack(change.ids, change.known + 1) })
  if change.producer ~= '' then
    call('HSET', P .. 'b:' .. id, 'p:' .. change.producer, int(tonumber(change.first) + #change.ids))
  end
  put(id, { nm = num(rec(id), 'nm') + count, ac = now })
  call('ZADD', P .. 'ix:p', 'XX', int(now + NEW_TTL.s), id)
  push(refill, id)
end

function write.message(change) call('HSET', P .. 'b:' .. home(change.id), change.id .. ':m', change.text) end
function write.run(change) start(change.id, change.due) end
function write.close(change) close(change.id) end

-- An item of a map that waits gets its record before its turn, in which it is found by its place.
local function real(id)
  local r = rec(id)
  if not r.v or r.st ~= 'p' then return end
  local map, index = item_of(id)
  give_record(map, index, message_of_item(map, index))
end

function write.patch(change)
  if change.known then return end
  real(change.id)
  local key = P .. 'b:' .. home(change.id)
  call('HSET', key, change.id, (call('HGET', key, change.id) or '{}') .. '\n' .. change.text)
end

-- What is below a container that is held from now on may all be held already: then slots are given back. A look at the
-- members that hold slots, a hundred at the most; what it does not see keeps its slot.
local looks = 100
local function look_below(id)
  local r = rec(id)
  looks = looks - 1
  if looks < 0 then return end
  if awaits_other(r) then
    look_below(r.by)
  elseif r.k == 't' or r.st == 'p' then
    if r.hd then give_back_slots(id) end
  elseif r.st == 'a' and r.k ~= 's' then
    look_below(current_member(id))
  elseif r.st == 'a' then
    local slots = call('SRANDMEMBER', P .. 'l:' .. id, 100)
    for _, member in ipairs(slots) do
      if rec(member) then look_below(member) end
    end
    if #slots == 0 then push(refill, id) end
  end
end

-- Rows of the node itself are taken out at once; those below when their delivery asks to run.
local function mark(id, letter)
  real(id)
  local fields, r = { mk = letter, mw = now }, rec(id)
  if letter == 'i' then fields.sp = call('INCR', P .. 'stamp') end
  put(id, fields)
  if not r.c and not r.o then
    call('ZREM', P .. 'ix:p', id)
    call('ZADD', P .. 'out', 'NX', int(now + SUSPENDED_TTL), '!u:' .. id)
  end
  if call('ZREM', P .. 'out', id) == 1 then hold(id, id) end
  if r.c and r.st == 'a' then look_below(id) end
end

local steering = {}

function steering.cancel(id)
  real(id)
  cancel(id)
end

function steering.suspend(id)
  if not rec(id).mk and held(id) ~= 'i' then mark(id, 's') end
end

function steering.interrupt(id)
  if rec(id).mk ~= 'i' then mark(id, 'i') end
end

function steering.resume(id)
  local r = rec(id)
  if not r.mk then return end
  drop_fields(id, 'mk')
  call('ZREM', P .. 'out', '!u:' .. id)
  if not r.c and not r.o and r.st == 'p' and not r.rd and num(r, 'rf') == 0 then
    call('ZADD', P .. 'ix:p', int(now + NEW_TTL[r.k]), id)
  end
  release_held(id)
end

-- An expiry that is under way begins again, with another lifetime.
function steering.remove(id)
  cancel(id)
  put(id, { re = 'removed' })
  drop_fields(id, 'xt')
  call('UNLINK', P .. 'x:' .. id)
  if num(rec(id), 'lv') == 0 then continue('!x:' .. id) end
end

function write.steer(change)
  local id, verb = change.id, change.verb_of
  if verb ~= 'remove' and ended(rec(id), id) then return end
  steering[verb](id)
end

local REPEATABLE = { node = true, members = true, draft = true, asked = true }
local remember = false
for _, change in ipairs(changes) do
  write[change.verb](change)
  remember = remember or not REPEATABLE[change.verb]
end
if draft then
  for id in pairs(heights) do
    if not rec(id) or (new[id] and new[id].kind ~= 't') then call('LPUSH', P .. 'dr:' .. draft, '+' .. id) end
  end
  call('RPUSH', P .. 'dr:' .. draft, '~' .. op)
elseif remember then
  call('SET', P .. 'op:' .. op, '', 'EX', 600)
end
drain()
local floors = {}
for id, height in pairs(heights) do
  if not rec(id) then floors[#floors + 1] = { id, height } end
end
return answer('ok', floors)
