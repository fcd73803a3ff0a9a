-- Adds a block of the source to a run, with the part of the load that decodes it; any worker may take it from then on.
-- KEYS[1]  hash: the run   KEYS[2] hash: the stage   KEYS[3] hash: parts (see part_claim.lua)
-- KEYS[4]  hash: part -> its block   KEYS[5] set: names of the run's collections
-- ARGV     1 part that reads, 2 its token, 3 number of the block in this read, 4 the block (bytes), 5 name of KEYS[4]
--          in KEYS[5], 6 seconds to keep
-- Returns  1, or 0 if the claim was lost to another (fenced) or the run has ended
-- Invariant: block n of the read that counts is the block of part load_first + n; the blocks come in order.
-- Idempotent: the same block added again changes nothing.
local held = redis.call('HGET', KEYS[3], ARGV[1])
if string.match(held or '', '^%d+ %d+ (.*)$') ~= ARGV[2] then return 0 end
local run = redis.call('HMGET', KEYS[1], 'state', 'load_first')
if run[1] ~= 'running' then return 0 end
local part, total = run[2] + ARGV[3], tonumber(redis.call('HGET', KEYS[2], 'total'))
if part > total then return redis.error_reply('block ' .. ARGV[3] .. ' is added before the one before it') end
redis.call('HSET', KEYS[4], string.format('%d', part), ARGV[4])
redis.call('EXPIRE', KEYS[4], ARGV[6])
redis.call('SADD', KEYS[5], ARGV[5])
redis.call('EXPIRE', KEYS[5], ARGV[6])
if part == total then redis.call('HSET', KEYS[2], 'total', string.format('%d', total + 1)) end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'progress_ms', t[1] * 1000 + math.floor(t[2] / 1000))
return 1
