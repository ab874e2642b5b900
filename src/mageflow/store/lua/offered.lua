--[[ Rows were handed to the task manager.

ARGV[3] ms within which a run should start   [4..] id, dispatch and the task manager's id of the run (or nothing), in threes
Returns the number of rows that still stand.
]]
local standing, due = 0, int(now + patience(ARGV[3]))
for i = 4, #ARGV, 3 do
  local id = ARGV[i]
  local fields = call('HMGET', P .. 's:' .. id, 'd', 'of', 'c')
  if fields[1] == ARGV[i + 1] and call('ZSCORE', P .. 'out', id) then
    standing = standing + 1
    call('HSET', P .. 's:' .. id, 'of', int((tonumber(fields[2]) or 0) + 1), 'oa', int(now))
    call('ZADD', P .. 'out', due, id)
    if ARGV[i + 2] ~= '' then call('HSET', P .. 'b:' .. (fields[3] or id), id .. ':i', ARGV[i + 2]) end
  end
end
return standing
