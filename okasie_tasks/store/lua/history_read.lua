-- Read the values of some references in one command: a pipeline of as many commands costs the client ten times as much.
--
-- KEYS   the history of each reference below  hash  see history_add.lua
-- ARGV   references
-- Returns the value of each, "" for none.

local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HGET', key, ARGV[i]) or '' end
return found
