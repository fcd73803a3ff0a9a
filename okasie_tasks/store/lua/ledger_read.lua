-- Reads entries of many buckets in one step, joined: separate reply values cost the reader more.
-- KEYS[1]  prefix of the ledger's hashes: reference -> packed entry
-- ARGV     1 bytes of an entry, 2 msgpack: {buckets, references}, of the same length
-- Returns  the entries in that order, joined; as many zero bytes for one that is not there
-- Changes nothing.
local width = tonumber(ARGV[1])
local asked = cmsgpack.unpack(ARGV[2])
local buckets, references = asked[1], asked[2]
local nothing = string.rep('\0', width)
local found = {}
for i = 1, #references do
  local entry = redis.call('HGET', KEYS[1] .. buckets[i], references[i])
  if not entry then
    entry = nothing
  elseif #entry ~= width then
    return redis.error_reply('a ledger entry has ' .. width .. ' bytes, not ' .. #entry)
  end
  found[i] = entry
end
return table.concat(found)
