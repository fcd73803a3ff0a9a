-- Become the sender of an account's inbox, or stay it.
-- KEYS[1]  string: token of whoever is sending   KEYS[2] string: since when the account rests, if it does
-- ARGV     1 token, 2 ms until it runs out unless it is renewed
-- Returns  1 if the caller is the sender now; 0 while somebody else is, or while the account rests
-- Invariant: one sender at a time, and none while a person has paused the account.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local sender = redis.call('GET', KEYS[1])
if sender and sender ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
