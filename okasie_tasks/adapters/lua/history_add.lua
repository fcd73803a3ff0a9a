-- Add events of one bucket and month, and what was last sent.
--
-- KEYS   1 history  hash  reference -> length (1 byte) of the snapshot, the snapshot, then, newest first, for each
--                         event its length (2 bytes, big endian) and the event
-- ARGV   1 how long to keep it (s)  2 events kept per reference  3... triples: reference, event, snapshot ("" keeps
--        the one that is held)
-- Returns how many events were new.
--
-- Invariant: at most so many events per reference; an event that is held already changes nothing, so that a client's
-- retry is one write and never puts an older snapshot back.

local added = 0
for i = 3, #ARGV, 3 do
  local reference, event, snapshot = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local held = redis.call('HGET', KEYS[1], reference) or '\0'
  local length = string.byte(held, 1)
  local kept, known, at = {}, false, length + 2
  while at < #held do
    local size = struct.unpack('>H', held, at)
    local one = string.sub(held, at + 2, at + 1 + size)
    if one == event then known = true end
    if #kept < tonumber(ARGV[2]) - 1 then kept[#kept + 1] = string.sub(held, at, at + 1 + size) end
    at = at + 2 + size
  end
  if not known then
    if snapshot == '' then snapshot = string.sub(held, 2, length + 1) end
    local packed = string.char(#snapshot) .. snapshot .. struct.pack('>H', #event) .. event .. table.concat(kept)
    redis.call('HSET', KEYS[1], reference, packed)
    added = added + 1
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return added
