-- Makes the caller the sender of an account's urgent queue, or keeps it so.
-- KEYS[1]  string: token of the sender   KEYS[2] string: since when the account is paused, if it is
-- ARGV     1 token, 2 ms until it expires unless renewed
-- Returns  1 if the caller is the sender now; 0 while another worker is, or while the account is paused
-- Invariant: one sender at a time, and none while an operator has paused the account.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local sender = redis.call('GET', KEYS[1])
if sender and sender ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
