--[[ Rows were handed to the task manager.

ARGV[3] ms within which a run should start   [4..] id and dispatch, in pairs
Returns the number of rows that still stand.
]]
local standing, due = 0, int(now + patience(ARGV[3]))
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local fields = call('HMGET', P .. 's:' .. id, 'd', 'of')
  if fields[1] == ARGV[i + 1] and call('ZSCORE', P .. 'out', id) then
    standing = standing + 1
    call('HSET', P .. 's:' .. id, 'of', int((tonumber(fields[2]) or 0) + 1), 'oa', int(now))
    call('ZADD', P .. 'out', due, id)
  end
end
return standing
