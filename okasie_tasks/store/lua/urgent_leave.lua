-- Stops being the account's sender.
--
-- KEYS   1 sender  string  token of the sender  2 order  zset of pending changes
-- ARGV   1 token  2 "empty": only if nothing waits; "": in any case
-- Returns 1 when there is nothing more to do for the caller (stopped, or another worker is the sender), else 0.
--
-- Invariant: the caller sees a change queued before this step; one queued after it finds no sender.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
if ARGV[2] == 'empty' and redis.call('ZCARD', KEYS[2]) > 0 then return 0 end
redis.call('DEL', KEYS[1])
return 1
