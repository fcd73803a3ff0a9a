-- Writes ledger entries of one bucket, each only if the ledger still holds what the writer read.
-- KEYS[1]  hash: reference -> packed entry
-- KEYS[2]  hash: key of a reference -> number of the run that had begun last when its entry was last written
-- KEYS[3]  hash: the account; run_number is that of its last run
--          KEYS 2 and 3 are missing in a migration, which forgets what is known of rows
-- ARGV     fours: reference, its key, entry as read ("" for none), new entry
-- Returns  the references that another process changed since (not written here).
-- Invariant: an entry never changes without being marked as touched, or a known row would be trusted that differs.
-- Idempotent under a client's retry: the retry finds the new entry and counts it as written.
local lost = {}
local number = KEYS[3] and redis.call('HGET', KEYS[3], 'run_number') or '0'
for i = 1, #ARGV, 4 do
  local now = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if now == ARGV[i + 2] or now == ARGV[i + 3] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 3])
    if KEYS[2] then redis.call('HSET', KEYS[2], ARGV[i + 1], number) end
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
