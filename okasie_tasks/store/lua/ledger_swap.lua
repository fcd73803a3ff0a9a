-- Writes ledger entries, each only if the ledger still holds what the writer read.
-- KEYS[1]  hash: key of a reference -> number of the run that had begun last when its entry was last written
-- KEYS[2]  hash: the account; run_number is that of its last run, entries how many entries the ledger has got, if set
-- KEYS[3..] for each change below, the bucket of its entry: hash, reference -> packed entry
-- ARGV     fours: reference, its key, entry as read ("" for none), new entry
-- Returns  the references that another process changed since (not written here).
-- Invariant: an entry never changes without being marked as touched, or a known row would be trusted that differs.
-- Idempotent under a client's retry: the retry finds the new entry and counts it as written.
local lost, touched, written, new = {}, {}, {}, 0
local number = redis.call('HGET', KEYS[2], 'run_number') or '0'
for change = 1, #KEYS - 2 do
  local i = 4 * change - 3
  local now = redis.call('HGET', KEYS[change + 2], ARGV[i]) or ''
  if now == ARGV[i + 2] or now == ARGV[i + 3] then
    touched[#touched + 1] = ARGV[i + 1]
    touched[#touched + 1] = number
    written[#written + 1] = change
    if now == '' then new = new + 1 end
  else
    lost[#lost + 1] = ARGV[i]
  end
end
if #touched > 0 then
  redis.call('HSET', KEYS[1], unpack(touched))
end
for _, change in ipairs(written) do
  redis.call('HSET', KEYS[change + 2], ARGV[4 * change - 3], ARGV[4 * change])
end
if new > 0 and redis.call('HEXISTS', KEYS[2], 'entries') == 1 then
  redis.call('HINCRBY', KEYS[2], 'entries', new)
end
return lost
