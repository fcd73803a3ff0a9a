-- Withdraws a push that no worker has received yet.
--
-- KEYS   1 push  hash  at (ms, Redis time), withdrawn, error, and outcomes
-- ARGV   1 how long to keep it (s)
-- Returns 1, or 0 when a worker has received it before. Invariant: a push is either received or withdrawn.

if redis.call('HEXISTS', KEYS[1], 'at') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'withdrawn', '1')
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
