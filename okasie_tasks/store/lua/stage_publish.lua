-- Takes the next window of a stage for publishing, when the one before is nearly done.
-- KEYS[1]  hash: the stage (total, published, closed)
-- ARGV     1 parts per window, 2 publish when at most so many published parts are still open
-- Returns  {from, to} (to is exclusive), or {} when nothing is to be published now
-- Invariant: each part is published by exactly one caller (the watchdog may do it again, later).
local total = tonumber(redis.call('HGET', KEYS[1], 'total') or '0')
local published = tonumber(redis.call('HGET', KEYS[1], 'published') or '0')
local closed = tonumber(redis.call('HGET', KEYS[1], 'closed') or '0')
if published >= total or published - closed > tonumber(ARGV[2]) then return {} end
local to = math.min(total, published + tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'published', to)
return {published, to}
