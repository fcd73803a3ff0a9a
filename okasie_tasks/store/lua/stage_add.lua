-- Adds parts to a stage together with the work of each; any worker may take them from then on.
-- KEYS[1]  hash: the stage   KEYS[2] prefix of the run's collections (hashes)   KEYS[3] set: names of the collections
-- ARGV     1 token of the extension, 2 seconds to keep, 3 collection that gets the work, by the numbers of the parts,
--          4 collection of the remainder ("" for none), 5 its field, 6 its value, then the work of each part
-- Returns  the number of the first added part
-- Idempotent: the same token adds once; work or a remainder that comes a second time is dropped.
local known = redis.call('HGET', KEYS[1], 'x:' .. ARGV[1])
if known then return tonumber(known) end
local total = tonumber(redis.call('HGET', KEYS[1], 'total') or '0')
local function keep(collection)
  redis.call('EXPIRE', KEYS[2] .. collection, ARGV[2])
  redis.call('SADD', KEYS[3], collection)
end
for i = 7, #ARGV do redis.call('HSET', KEYS[2] .. ARGV[3], total + i - 7, ARGV[i]) end
if #ARGV > 6 then keep(ARGV[3]) end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[2] .. ARGV[4], ARGV[5], ARGV[6])
  keep(ARGV[4])
end
redis.call('EXPIRE', KEYS[3], ARGV[2])
redis.call('HSET', KEYS[1], 'x:' .. ARGV[1], total, 'total', total + #ARGV - 6)
return total
