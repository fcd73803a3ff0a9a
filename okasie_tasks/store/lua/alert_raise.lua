-- Stores an alert for a channel, unless it is known. One slot per channel, kind and account: a later alert replaces a
-- waiting one and is counted, so that a burst becomes one message with a number.
-- KEYS[1]  zset: slot -> when it is due (ms)   KEYS[2] hash: slot -> what waits   KEYS[3] hash: slot -> "ms key" of the last
-- ARGV     1 slot "channel kind account", 2 key of the alert, 3 the alert (JSON), 4 ms from one message of a slot to the next
-- Returns  1 when the alert is new, else 0
-- Invariant: a slot is due at most once in ARGV[4], regardless of who raises and who sends.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local last_ms, last_key = string.match(redis.call('HGET', KEYS[3], ARGV[1]) or '0 ', '^(%d+) (.*)$')
if last_key == ARGV[2] then return 0 end
local raw = redis.call('HGET', KEYS[2], ARGV[1])
local waits = raw and cjson.decode(raw)
if waits and waits.key == ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1],
  cjson.encode({key = ARGV[2], alert = ARGV[3], count = (waits and waits.count or 0) + 1, tries = 0}))
if not waits then
  redis.call('ZADD', KEYS[1], string.format('%.0f', math.max(now, tonumber(last_ms) + tonumber(ARGV[4]))), ARGV[1])
end
return 1
