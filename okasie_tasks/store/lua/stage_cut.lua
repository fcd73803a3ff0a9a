-- Removes the parts of a stage that are not published yet.
-- KEYS[1]  hash: the stage (total, published)
-- Returns  the number of parts that are left
-- Invariant: a published part stays, since a worker may have claimed it.
local published = tonumber(redis.call('HGET', KEYS[1], 'published') or '0')
local total = math.min(tonumber(redis.call('HGET', KEYS[1], 'total') or '0'), published)
redis.call('HSET', KEYS[1], 'total', total)
return total
