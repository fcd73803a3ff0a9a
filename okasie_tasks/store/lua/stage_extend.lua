-- Adds parts to an unfinished stage, and records in the run what they are, in the same step; any worker may take them
-- from then on.
-- KEYS[1]  hash: the stage   KEYS[2] hash: the run
-- ARGV     1 token of the extension, 2 parts to add, 3 fact of the run ("" for none), 4 its text, in which {first}
--          stands for the number of the first added part
-- Returns  the number of the first added part
-- Idempotent: the same token adds once.
local known = redis.call('HGET', KEYS[1], 'x:' .. ARGV[1])
if known then return tonumber(known) end
local total = tonumber(redis.call('HGET', KEYS[1], 'total') or '0')
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[3], (string.gsub(ARGV[4], '{first}', string.format('%d', total))))
end
redis.call('HSET', KEYS[1], 'x:' .. ARGV[1], total, 'total', total + tonumber(ARGV[2]))
return total
