-- Writes ledger entries of one bucket, each only if the ledger still holds what the writer read.
-- KEYS[1]  hash: reference -> packed entry
-- ARGV     triples: reference, entry as read ("" for none), new entry
-- Returns  the references that another process changed since (not written here).
-- Idempotent under a client's retry: the retry finds the new entry and counts it as written.
local lost = {}
for i = 1, #ARGV, 3 do
  local now = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if now == ARGV[i + 1] or now == ARGV[i + 2] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
