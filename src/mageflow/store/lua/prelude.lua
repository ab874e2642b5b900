--!df flags=allow-undeclared-keys
--[[ Prelude of every script: names, records, the path to the root.

KEYS[1]  `{mf:<namespace>}:out`; every other key is built from its prefix, always with the same hash tag.
ARGV[1]  operation id, made once for each API call
ARGV[2]  settings, 13 doubles: never-started ttl (task chain swarm switch), finished ttl (likewise), suspended ttl, all in
         ms; lease in ms; crash limit; largest value in bytes that is sent along with a row; replacements of a task.
         Nothing where a script needs none

Keys behind the prefix
  out        zset    outbox: signature id (dispatch row) or `!<kind>:<id>` (continue row) -> due time in ms
  runs       zset    signature id of an accepted run, `<id>~<run>` of one that was overtaken -> last sign of life in ms
  ix:<st>    zset    roots by status: p -> expiry of the never started, a -> start, d f c -> expiry of the finished
  workers    zset    worker -> last beat;   tasks  hash  name -> definition;   lo  hash  name -> offer of the newest start
  drafts     zset    draft id -> time of its expiry;   op:<op>  string  repeats
  dr:<draft> list    what it wrote: `id` new, `<id` claimed, `~op` a block, at the head `+id` containers
  s:<id>     hash    record, short fields only;   b:<id>  hash  payloads of a root or of the members of a container
  m:<id>     list    members in order;   c:<id>  list  callbacks that this signature fired
  w:<id>     list    members of a swarm that no run or close has made ready yet
  q:<id>     list    ready members of a swarm; `*n` stands for the next n of w:<id>
  o:<id>     list    member swarms that one of their members opened, before the own run of both
  l:<id>     set     slots of a swarm: member ids, `<id>~<run>` for a run that outlived its member or was overtaken by the
                     task's next attempt, `<id>~w` for a walk
  g:<id>     set     members of a swarm that are held and gave their slot back
  h:<id>     list    what the mark of this node holds, or what waits for the slot that it gave back
  stamp      string  counter of interrupts and cancels;   ask  string  up to when questions to the task manager are used up
  f:<id>     list    what is still to be looked through for callbacks that were fired below a canceled signature
  k:<id>     list    copies still to be made for a fired callback;   x:<id>  list  records still to be expired
  i:<id>     list    items of a map that wait: its last ones, their messages as JSON
  e:<id>     zset    items of a map that have a record -> their index
  r:<id>:<n> hash    results of the items n * 100 to n * 100 + 99 that have none any more, by the rest
  y:<id>     list    indices of the items that are done, in the order of their ends
  n:<id>     zset    what the runs of this task created, roots only -> the newest run that asked for it
  schema     string  version of the records, 1 where there is none: scripts of an older version refuse to touch them

Fields of a record
  k kind (t task, c chain, s swarm, w switch)   st status (p a d f c)   c container   x index in a chain or switch   o signature that fired it
  h height   dr draft   tn task name   rd told to run   du not before this time   d dispatch   a attempts used   n run   sd dispatch and attempt last started
  al of the attempts used, in this dispatch, those whose deliveries were lost on their way   w worker   op last operation   cr lapses   of offers   oa offered at   t0 created   t1 started   t2 ended
  nx must not run again when its worker is lost   sn dispatch that a worker has and has not begun, with the time when that was seen
  in id of the value injected   ie id of the error injected   rs source of the result   es source of the error   re reason
  rf records that name it as a callback   ri those of them that are in its own flow, counted when that is over   lv what keeps a root from expiring: itself, fired callbacks, runs
  nm members   na active   nd done   nf failed   nc canceled   wc cursor of the cancel walk   wr its reason   wi it stops runs
  xt ttl of the expiry walk   mk mark (s suspended, i interrupted, c canceled)   mw since when   sp stamp of the newest interrupt or cancel   rt stamp at the run's start
  hd on a list of held ones   sl slot given back (0), asked for again (q)   po outcome that waits for the end of a hold
  cx of a switch: the place of the case that was chosen   ch of a task below a chooser: what it chose
  by of a task: the signature that replaced it   br the run that returned it   rn how many did, one after the other
     ck its result is to be checked when that has ended (1), or now (2)   fo of a replacement: the task that it replaced, where that is not its container
  it of a map: the template of its items   tp of such a template: it goes with the map   v not stored: it is an item without a record, see `of_map`
  mc sf mt os cl  swarm settings and the gate   own  the swarm's own run came   ac  last activity of an open swarm
]]
local P = string.match(KEYS[1], '^(.*:)')
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local op = ARGV[1]
local settings = ARGV[2] ~= '' and { struct.unpack('>ddddddddddddd', ARGV[2]) } or {}
local NEW_TTL = { t = settings[1], c = settings[2], s = settings[3], w = settings[4] }
local DONE_TTL = { t = settings[5], c = settings[6], s = settings[7], w = settings[8] }
local SUSPENDED_TTL, LEASE, CRASH_LIMIT, INLINE_LIMIT, MAX_REPLACEMENTS = unpack(settings, 9, 13)
local SCHEMA = 1
local schema = call('GET', P .. 'schema')
if schema and tonumber(schema) > SCHEMA then return redis.error_reply('NEWER ' .. schema) end
local ENDED = { d = true, f = true, c = true }
local OFFER_AFTER = 2000

local function int(value) return string.format('%d', value) end

local function num(record, name) return tonumber(record[name] or 0) end

-- The map and the index in the id of an item, `<map>#<index>`.
local function item_of(id)
  local map, index = string.match(id, '^(.-)#(%d+)$')
  return map, tonumber(index)
end

-- Where the result of an item stands that has no record any more: key and field.
local function place_of_item(map, index)
  return P .. 'r:' .. map .. ':' .. int(math.floor(index / 100)), int(index % 100)
end

-- The message of an item that waits; the last one waits at the end of the list.
local function message_of_item(map, index)
  return call('LINDEX', P .. 'i:' .. map, int(index - tonumber(call('HGET', P .. 's:' .. map, 'nm'))))
end

-- Records, read once for each script.
local cache, rec = {}, nil

-- An item of a map has a record only while something happens to it. One that waits, or is done, reads as if it had one.
local function of_map(id)
  local map, index = item_of(id)
  local r = map and rec(map)
  if not r or not r.it or index >= num(r, 'nm') then return false end
  local record = { v = true, c = map, k = 't', h = '1', t0 = r.t0, rd = '1' }
  local key, field = place_of_item(map, index)
  if call('HEXISTS', key, field) == 1 then
    record.st = 'd'
  elseif index >= num(r, 'nm') - call('LLEN', P .. 'i:' .. map) then
    record.st = 'p'
  end
  return record.st and record or false
end

rec = function(id)
  local known = cache[id]
  if known == nil then
    local flat = call('HGETALL', P .. 's:' .. id)
    known = #flat == 0 and of_map(id)
    if #flat > 0 then
      known = {}
      for i = 1, #flat, 2 do known[flat[i]] = flat[i + 1] end
    end
    cache[id] = known
  end
  return known or nil
end

local function put(id, fields)
  local flat, record = {}, cache[id]
  for name, value in pairs(fields) do
    if type(value) == 'number' then value = int(value) end
    flat[#flat + 1] = name
    flat[#flat + 1] = value
    record[name] = value
  end
  call('HSET', P .. 's:' .. id, unpack(flat))
end

local function add(id, name, amount)
  local record = rec(id)
  record[name] = int(call('HINCRBY', P .. 's:' .. id, name, amount))
  return tonumber(record[name])
end

local function drop_fields(id, ...)
  call('HDEL', P .. 's:' .. id, ...)
  for _, name in ipairs({ ... }) do rec(id)[name] = nil end
end

-- A text that fits into a field of a record.
local function short(text) return #text <= 60 and text or redis.sha1hex(text) end

local function home(id) return rec(id).c or id end

local function top(id)
  local record = rec(id)
  while record do
    local above = record.c or record.o
    if not above or not rec(above) then return id end
    id, record = above, rec(above)
  end
end

-- The nearest container above that has ended, and whether one of them stops what runs: what has not ended below counts as
-- canceled. The failure of a container does not reach the callbacks that were fired below it.
local function dead(id)
  local record, nearest, stop = rec(id), nil, false
  while record and record.c do
    local container = rec(record.c)
    if container and ENDED[container.st] then
      nearest = nearest or record.c
      stop = stop or container.wi == '1'
    end
    record = container
  end
  return nearest, stop
end

-- How long an offered row may wait before it is looked into: the more rows stand, the longer the queue before it.
local function patience(start_timeout)
  return tonumber(start_timeout) + math.min(60000, 2 * call('ZCARD', P .. 'out'))
end

local STRENGTH = { s = 1, i = 2, c = 3 }

-- The strongest mark on the path of a signature, and the node that carries it. Marks reach the callbacks fired below them;
-- with the end of a signature it holds nothing any more.
local function held(id)
  local mark, node
  while id do
    local record = rec(id)
    if not record then break end
    if record.mk and (record.mk == 'c' or not ENDED[record.st]) and (not mark or STRENGTH[record.mk] > STRENGTH[mark]) then
      mark, node = record.mk, id
    end
    id = record.c or record.o
  end
  return mark, node
end

-- Whether a node on the path was interrupted or canceled after a run had started: what that run reports is discarded.
local function overtaken(id)
  local started = num(rec(id), 'rt')
  while id do
    local record = rec(id)
    if not record then return false end
    if num(record, 'sp') > started then return true end
    id = record.c or record.o
  end
  return false
end

-- A run that is stopped, or overtaken, keeps its slot in every living swarm above it until its last report; so does the
-- walk that stops runs, until it is through.
local function keep_slots(id, run)
  local record, kept = rec(id), false
  while record and record.c do
    local container = rec(record.c)
    if container and container.k == 's' and container.st == 'a' then
      call('SADD', P .. 'l:' .. record.c, id .. '~' .. run)
      kept = true
    end
    record = container
  end
  return kept
end

-- The outermost container above, or the signature itself, that gave its slot back.
local function without_slot(id)
  local outermost
  while id do
    local record = rec(id)
    if not record then break end
    if record.sl then outermost = id end
    id = record.c
  end
  return outermost
end

-- The member of a chain whose turn it is: the first that has not ended, or was canceled before its turn, or the last. Of a
-- switch: the chooser, then the case that was chosen.
local function current_member(id)
  if rec(id).k == 'w' then return call('LINDEX', P .. 'm:' .. id, num(rec(id), 'cx')) end
  local low, high = 0, num(rec(id), 'nm') - 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = rec(call('LINDEX', P .. 'm:' .. id, middle))
    if member and member.rd and ENDED[member.st] then low = middle + 1 else high = middle end
  end
  return call('LINDEX', P .. 'm:' .. id, low)
end

-- Whether a task waits for the end of the signature that replaced it.
local function awaits_other(record) return record.by and record.ck ~= '2' end

-- Whether the code of a task runs, or that of the task that replaced it.
local function runs_on(id)
  local record = rec(id)
  while awaits_other(record) and rec(record.by) do
    id, record = record.by, rec(record.by)
  end
  return record.k == 't' and call('ZSCORE', P .. 'runs', id)
end

-- The effective status if it is an ended one.
local function ended(record, id)
  if ENDED[record.st] then return record.st end
  if held(id) == 'c' then return 'c' end
  local above, stop = dead(id)
  if above and (stop or record.st == 'p' or not runs_on(id)) then return 'c' end
end
