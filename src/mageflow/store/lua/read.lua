--[[ Read records with what belongs to them; changes nothing.

ARGV[3..] ids
Returns for each id false, or {record, status, body, message, success, failure, result, error, problem, source, slots, cases}: `status` is
the effective one, `source` the id whose result or error stands for this one.
]]
-- What belongs to an item of a map that has no record: what the template has, its message while it waits, its result.
local function of_item(id, r)
  local map, index = item_of(id)
  local template = rec(map).it
  local p = { '{"n":null}', false, false, false }
  if rec(template) then
    p = call('HMGET', P .. 'b:' .. home(template), template, '', template .. ':s', template .. ':f')
  end
  if r.st == 'p' then
    p[2] = message_of_item(map, index)
  else
    local key, field = place_of_item(map, index)
    p[5] = call('HGET', key, field)
  end
  for i = 5, 8 do p[i] = p[i] or false end
  return p
end

local NAMES = { '', ':m', ':s', ':f', ':r', ':e', ':p', ':v' }
local function payload(id)
  local names = {}
  for i, suffix in ipairs(NAMES) do names[i] = id .. suffix end
  return call('HMGET', P .. 'b:' .. home(id), unpack(names))
end

local out = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local r = rec(id)
  out[#out + 1] = false
  if r then
    local flat = {}
    for name, value in pairs(r) do
      if name ~= 'v' then flat[#flat + 1], flat[#flat + 2] = name, value end
    end
    local p = r.v and of_item(id, r) or payload(id)
    out[#out] = { flat, ended(r, id) or held(id) or r.st, p[1], p[2], p[3], p[4], p[5], p[6], p[7], r.rs or r.es or id,
      r.k == 's' and call('SCARD', P .. 'l:' .. id) or 0, p[8] }
  end
end
return out
