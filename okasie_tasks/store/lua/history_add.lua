-- Add events, and what was last sent.
--
-- KEYS   the history of each reference below  hash  reference -> length (1 byte) of the snapshot, the snapshot, then,
--        newest first, for each event its length (2 bytes, big endian) and the event
-- ARGV   1 how long to keep it (s)  2 events kept per reference  3... triples: reference, event, snapshot ("" keeps
--        the one that is held)
-- Returns how many events were new.
--
-- Invariant: at most so many events per reference; an event that is held already changes nothing, so that a client's
-- retry is one write and never puts an older snapshot back.

local added = 0
for i, key in ipairs(KEYS) do
  local reference, event, snapshot = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  local held = redis.call('HGET', key, reference) or '\0'
  local length = string.byte(held, 1)
  local kept, known, at = {}, false, length + 2
  while at < #held do
    local size = struct.unpack('>H', held, at)
    known = known or string.sub(held, at + 2, at + 1 + size) == event
    if #kept < tonumber(ARGV[2]) - 1 then kept[#kept + 1] = string.sub(held, at, at + 1 + size) end
    at = at + 2 + size
  end
  if not known then
    if snapshot == '' then snapshot = string.sub(held, 2, length + 1) end
    local packed = string.char(#snapshot) .. snapshot .. struct.pack('>H', #event) .. event .. table.concat(kept)
    redis.call('HSET', key, reference, packed)
    added = added + 1
  end
  redis.call('EXPIRE', key, ARGV[1])
end
return added
