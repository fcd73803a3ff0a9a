-- Moves a run from one stage to the next, for exactly one caller, and opens the next stage; the record gets the
-- time ("at:{stage}", ms).
-- KEYS[1]  hash: the run   KEYS[2] hash: the next stage
-- ARGV     1 stage it is in, 2 next stage, 3 parts of the next stage, 4 seconds to keep the stage, then field, value
--          pairs for the run's record
-- Returns  1 if this caller moved it, else 0
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 0 end
if redis.call('HGET', KEYS[1], 'stage') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'stage', ARGV[2], 'progress_ms', now)
redis.call('HSETNX', KEYS[1], 'at:' .. ARGV[2], now)
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSETNX', KEYS[2], 'total', ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
