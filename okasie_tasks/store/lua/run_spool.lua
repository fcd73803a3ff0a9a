-- Stores the values of one part of a run by collection, in one step.
-- KEYS[1]  prefix of the run's collections (hashes)   KEYS[2] set: names of the collections
-- KEYS[3]  hash that gets a value in the same step, or none
-- ARGV     1 field: the part, 2 seconds to keep, 3 field and 4 value in KEYS[3], then pairs: collection, value
-- Idempotent: the same part writes the same fields.
if KEYS[3] then redis.call('HSET', KEYS[3], ARGV[3], ARGV[4]) end
for i = 5, #ARGV, 2 do
  local key = KEYS[1] .. ARGV[i]
  redis.call('HSET', key, ARGV[1], ARGV[i + 1])
  redis.call('EXPIRE', key, ARGV[2])
  redis.call('SADD', KEYS[2], ARGV[i])
end
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
