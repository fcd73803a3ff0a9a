-- Returns the entries that were written of late, unless they are many.
-- KEYS[1]  hash: key of a reference -> number of the run that had begun last when its entry was last written
-- ARGV     1 how many are not many
-- Returns  keys and numbers in turn, or false if they are more
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then return false end
return redis.call('HGETALL', KEYS[1])
