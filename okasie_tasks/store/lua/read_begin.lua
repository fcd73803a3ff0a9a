-- Begins a read of the source, by the part of the load that reads. The blocks of an earlier read are deleted, and their
-- parts no longer count.
-- KEYS[1]  hash: the run   KEYS[2] hash: the stage   KEYS[3] hash: parts (see part_claim.lua)
-- KEYS[4]  hash: part -> its block
-- ARGV     1 part, 2 token
-- Returns  1, or 0 if the claim was lost to another (fenced) or the run has ended
-- Invariant: load_first is the part of the first block of the only read that counts; it never becomes smaller.
local held = redis.call('HGET', KEYS[3], ARGV[1])
if string.match(held or '', '^%d+ %d+ (.*)$') ~= ARGV[2] then return 0 end
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 0 end
redis.call('UNLINK', KEYS[4])
redis.call('HSET', KEYS[1], 'load_first', redis.call('HGET', KEYS[2], 'total') or '0')
return 1
