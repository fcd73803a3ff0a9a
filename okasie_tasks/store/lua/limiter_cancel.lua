-- Returns a permit for which no byte was sent, or leaves the queue.
--
-- KEYS   1 log  2 second  3 queue  4 due  5 state  6 asked (see limiter_acquire.lua)
-- ARGV   1 permit ("" for none)  2 ticket ("" for none)
-- Returns how many permits came back. Invariant: the log counts exactly what it counted before the grant. The pace is
-- what it was, if no permit was granted since; a pause begun since is not made up for. The log alone keeps the quota.

local back = 0
if ARGV[1] ~= '' then
  back = redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  -- Another request may probe, but only if it was the probe that came back.
  local h = redis.call('HMGET', KEYS[5], 'pp', 'lp', 'lt', 'tat', 'pause')
  if h[1] == ARGV[1] then redis.call('HSET', KEYS[5], 'pt', '0') end
  if back == 1 and h[2] == ARGV[1] then
    local before = math.min(tonumber(h[4]), math.max(tonumber(h[3]), tonumber(h[5] or 0)))
    redis.call('HSET', KEYS[5], 'tat', string.format('%.3f', before), 'lp', '')
  end
end
if ARGV[2] ~= '' then
  redis.call('ZREM', KEYS[3], ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('HDEL', KEYS[6], ARGV[2])
end
return back
