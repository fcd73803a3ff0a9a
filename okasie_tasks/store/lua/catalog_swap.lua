-- Writes one shelf of the catalogue, if it still holds what the writer read.
-- KEYS[1]  hash: shelf -> packed titles
-- ARGV     1 shelf, 2 SHA-1 in hex of the value as read ("" for none), 3 new value
-- Returns  1 when written, else 0
-- Idempotent under a client's retry: the retry finds the new value and counts it as written.
local now = redis.call('HGET', KEYS[1], ARGV[1])
if now == ARGV[3] then
  return 1
end
if (now and redis.sha1hex(now) or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
