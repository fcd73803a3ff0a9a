-- Adds parts to a stage that is not finished.
-- KEYS[1]  hash: the stage
-- ARGV     1 token of the extension, 2 parts to add
-- Returns  the number of the first added part
-- Idempotent: the same token adds once.
local known = redis.call('HGET', KEYS[1], 'x:' .. ARGV[1])
if known then return tonumber(known) end
local total = tonumber(redis.call('HGET', KEYS[1], 'total') or '0')
redis.call('HSET', KEYS[1], 'x:' .. ARGV[1], total, 'total', total + tonumber(ARGV[2]))
return total
