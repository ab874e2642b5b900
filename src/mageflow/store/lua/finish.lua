--[[ A run reports its outcome; successors and callbacks become ready in the same step.

ARGV[3] id   [4] run   [5] d (done), f (failed) or r (replaced)   [6] result or error as JSON, or the id of the signature
that replaces it   [7] of a result: what it chooses among the cases of a switch, as JSON: a bool, int or str; of a
replacement: 1, if its result is to be checked by this task; or nothing
Returns {'recorded', rows, nodes, continues}, or what became of it: gone, ended, superseded.
Invariant: one outcome is recorded; what a superseded run reports changes nothing.
]]
local id, run, outcome = ARGV[3], ARGV[4], ARGV[5]
local r = rec(id)

-- Whether the result of a task may be what a switch chooses by.
local function below_chooser(id)
  local record = rec(id)
  while record and record.c do
    if rec(record.c) and rec(record.c).k == 'w' and num(record, 'x') == 0 then return true end
    record = rec(record.c)
  end
end

local ALL = { '', ':m', ':s', ':f', ':v', ':r', ':e', ':i', ':p' }

local function problem(name, text) return '{"type":"' .. name .. '","message":' .. cjson.encode(text) .. '}' end

-- Why a signature cannot replace a task, as the JSON of an error, if so.
local function refused(by, first)
  local other, key = rec(by), string.sub(P, 2, -3) .. ':' .. by
  if not other or (other.dr and call('ZSCORE', P .. 'drafts', other.dr)) then
    return problem('SignatureNotFoundError', 'there is no signature ' .. key)
  end
  local levels, above = num(other, 'h'), id
  while above do
    levels = levels + 1
    if above == by then return problem('CycleError', key .. ' contains the task that it would replace') end
    above = rec(above) and (rec(above).c or rec(above).o)
  end
  if other.c or other.o then return problem('AlreadyInContainerError', key .. ' already has a container') end
  if levels > 64 then return problem('TooDeepError', key .. ' would nest deeper than 64 levels') end
  if num(rec(first), 'rn') >= MAX_REPLACEMENTS then
    return problem('TooManyReplacementsError', 'it was replaced ' .. int(MAX_REPLACEMENTS) .. ' times (max_replacements)')
  end
end

-- A signature becomes a member of the task that it replaces; of the first one, where that is a replacement itself. What has
-- ended already leaves its outcome.
local function replace(by, check)
  local first = r.c and rec(r.c) and rec(r.c).k == 't' and r.c or id
  local refusal = refused(by, first)
  if refusal then
    call('HSET', P .. 'b:' .. home(id), id .. ':e', refusal)
    return end_node(id, 'f')
  end
  local other, names, flat = rec(by), {}, {}
  add(first, 'rn', 1)
  put(id, { by = by, br = run, ck = check == '1' and 1 or nil })
  if ENDED[other.st] then
    local source = other.rs or by
    local value = rec(source) and call('HGET', P .. 'b:' .. home(source), source .. ':r')
    if other.st ~= 'd' or not value then return replaced_ended(id, by) end
    call('HSET', P .. 'b:' .. home(id), id .. ':r', value)
    return accept_result(id, id, rec(source).ch)
  end
  for i, suffix in ipairs(ALL) do names[i] = by .. suffix end
  for i, value in ipairs(call('HMGET', P .. 'b:' .. by, unpack(names))) do
    if value then flat[#flat + 1], flat[#flat + 2] = names[i], value end
  end
  call('HDEL', P .. 'b:' .. by, unpack(names))
  call('HSET', P .. 'b:' .. first, unpack(flat))
  call('ZREM', P .. 'ix:p', by)
  call('ZREM', P .. 'ix:a', by)
  call('ZREM', P .. 'out', '!u:' .. by)
  -- What it keeps alive besides itself keeps this flow alive from now on.
  if other.lv then
    if num(other, 'lv') > 1 then add(top(id), 'lv', num(other, 'lv') - 1) end
    drop_fields(by, 'lv')
  end
  put(by, { c = first, fo = first ~= id and id or nil, rd = 1 })
  run_own(by)
  if other.st == 'a' then add(first, 'na', 1) end
  local above = dead(id)
  if above then return end_replacement(by, rec(above).wr, true) end
  if other.st == 'p' then push(ready, by) end
end

local known = answer_at_once(id, run)
if known then return known end
local counted = release(id)
local status = 'ended'
local _, stop = dead(id)
if not ENDED[r.st] and not stop and overtaken(id) and r.br ~= run then
  status = 'superseded'
  if counted then ready_again(id) end
elseif not ENDED[r.st] and not stop and r.br ~= run then
  status = 'recorded'
  call('ZREM', P .. 'out', id)
  if outcome == 'r' then
    put(id, { op = op })
    replace(ARGV[6], ARGV[7])
  else
    if r.by then drop_fields(id, 'rs') end
    call('HSET', P .. 'b:' .. home(id), id .. (outcome == 'd' and ':r' or ':e'), ARGV[6])
    put(id, { op = op, ch = ARGV[7] ~= '' and below_chooser(id) and short(ARGV[7]) or nil })
    end_node(id, outcome)
  end
end
return answer_report(id, counted, status)
