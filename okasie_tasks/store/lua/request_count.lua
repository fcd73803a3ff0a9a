-- Counts one request, and stores it for its run's report: counts by time, the slowest requests, the first that failed.
-- KEYS[1]  hash: the account's counters   KEYS[2] hash: the run; absent if none sent the request
-- KEYS[3]  hash: counts by time   KEYS[4] zset: the slowest, by ms   KEYS[5] list: failed
-- ARGV     1 ms from sending to answer, 2 HTTP status (0: no answer), 3 the request in JSON, 4 seconds to keep,
--          5 how many of the slowest, and of the failed, 6 counter of the run, then pairs: counter of the account, by how much
-- Returns  1, or 0 for a run that has not begun
-- Invariant: bounded. Fields are "{n|r|f}:{second}": all, refused with 429, failed otherwise (0 or 500 and above); slots
--          of 10 s for the first 20 minutes of a run, then of 5 minutes, and all after 26 hours are one.
for i = 7, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
if not KEYS[2] then return 0 end
redis.call('HINCRBY', KEYS[2], ARGV[6], 1)
local started = tonumber(redis.call('HGET', KEYS[2], 'started_ms') or '')
if not started then return 0 end
local t = redis.call('TIME')
local at = math.max(0, math.floor((t[1] * 1000 + math.floor(t[2] / 1000) - ARGV[1] - started) / 1000))
local slot = at < 1200 and at - at % 10 or math.min(at - at % 300, 93600)
local status, entry = tonumber(ARGV[2]), at .. ' ' .. ARGV[3]
local fresh = redis.call('HINCRBY', KEYS[3], 'n:' .. slot, 1) == 1
if status == 429 then redis.call('HINCRBY', KEYS[3], 'r:' .. slot, 1) end
if status == 0 or status >= 500 then redis.call('HINCRBY', KEYS[3], 'f:' .. slot, 1) end
redis.call('ZADD', KEYS[4], ARGV[1], entry)
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -ARGV[5] - 1)
local failed = status == 0 or status >= 400
if failed and redis.call('LLEN', KEYS[5]) < tonumber(ARGV[5]) then redis.call('RPUSH', KEYS[5], entry) else failed = false end
if fresh then
  redis.call('EXPIRE', KEYS[3], ARGV[4])
  redis.call('EXPIRE', KEYS[4], ARGV[4])
end
if failed then redis.call('EXPIRE', KEYS[5], ARGV[4]) end
return 1
