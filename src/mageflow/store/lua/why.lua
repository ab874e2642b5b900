--[[ What a signature waits on, see waiting.lua; changes nothing.

ARGV[3] id
Returns false if there is no such record, {} if it has ended, else {kind, on, since in ms}: `on` is an id, a worker, or the
name of a row.
]]
if not rec(ARGV[3]) then return false end
return waits_on(ARGV[3]) or {}
