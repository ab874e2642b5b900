--[[ Rows are still being handed to the task manager: no sweeper offers them for a while.

ARGV[3..] id and dispatch, in pairs
Invariant: of a row that is not this dispatch any more, or is to be looked at later anyway, nothing changes.
]]
for i = 3, #ARGV, 2 do
  if call('HGET', P .. 's:' .. ARGV[i], 'd') == ARGV[i + 1] then
    call('ZADD', P .. 'out', 'XX', 'GT', int(now + OFFER_AFTER), ARGV[i])
  end
end
return 'ok'
