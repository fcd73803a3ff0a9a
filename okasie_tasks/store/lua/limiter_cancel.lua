-- Returns a permit for which no byte was sent, or leaves the queue.
--
-- KEYS   1 log  2 second  3 queue  4 due  5 state  6 asked (see limiter_acquire.lua)
-- ARGV   1 permit ("" for none)  2 ticket ("" for none)
-- Returns how many permits came back. Invariant: the log counts exactly what it counted before the grant.

local back = 0
if ARGV[1] ~= '' then
  back = redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  -- Another request may probe, but only if it was the probe that came back.
  if redis.call('HGET', KEYS[5], 'pp') == ARGV[1] then redis.call('HSET', KEYS[5], 'pt', '0') end
end
if ARGV[2] ~= '' then
  redis.call('ZREM', KEYS[3], ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('HDEL', KEYS[6], ARGV[2])
end
return back
