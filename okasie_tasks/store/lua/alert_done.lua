-- Records the outcome of a taken alert: over (sent, or given up), or to be retried.
-- KEYS[1]  zset: slot -> when it is due (ms)   KEYS[2] hash: slot -> what waits   KEYS[3] hash: slot -> "ms key" of the last
-- ARGV     1 slot, 2 key, 3 count as taken, 4 "over" or ms to wait for the next try, 5 ms from one message to the next
-- Returns  1
-- Invariant: an alert raised while the message was sent is not lost: it waits for the slot's next message.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local raw = redis.call('HGET', KEYS[2], ARGV[1])
local waits = raw and cjson.decode(raw)
if ARGV[4] ~= 'over' then
  if waits then redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[4]), ARGV[1]) end
  return 1
end
redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
if not waits or waits.key == ARGV[2] then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  waits.count, waits.tries = math.max(1, waits.count - ARGV[3]), 0
  redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(waits))
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[5]), ARGV[1])
end
return 1
