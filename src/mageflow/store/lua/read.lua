--[[ Read records with what belongs to them; changes nothing.

ARGV[3..] ids
Returns for each id false, or {record, status, body, message, success, failure, result, error, problem, source, slots, cases}: `status` is
the effective one, `source` the id whose result or error stands for this one.
]]
local out = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local r = rec(id)
  out[#out + 1] = false
  if r then
    local flat = {}
    for name, value in pairs(r) do flat[#flat + 1], flat[#flat + 2] = name, value end
    local p = call('HMGET', P .. 'b:' .. home(id), id, id .. ':m', id .. ':s', id .. ':f', id .. ':r', id .. ':e', id .. ':p', id .. ':v')
    out[#out] = { flat, ended(r, id) or held(id) or r.st, p[1], p[2], p[3], p[4], p[5], p[6], p[7], r.rs or r.es or id,
      r.k == 's' and call('SCARD', P .. 'l:' .. id) or 0, p[8] }
  end
end
return out
