-- Put wishes into the inbox, change them or take them out, each only where it still holds what the caller has read.
--
-- KEYS   1 wishes  hash  reference -> packed wish
--        2 order   zset  reference -> moment (ms) of its first acceptance
-- ARGV   quadruples: reference, wish as read ("" for none), new wish ("" takes it out), moment (ms)
-- Returns the references that somebody else changed in between (not written here).
--
-- Idempotent under a client's retry: a second try finds the new state already there.

local lost = {}
for i = 1, #ARGV, 4 do
  local reference, new = ARGV[i], ARGV[i + 2]
  local now = redis.call('HGET', KEYS[1], reference) or ''
  if now == new then
    -- done before
  elseif now ~= ARGV[i + 1] then
    lost[#lost + 1] = reference
  elseif new == '' then
    redis.call('HDEL', KEYS[1], reference)
    redis.call('ZREM', KEYS[2], reference)
  else
    redis.call('HSET', KEYS[1], reference, new)
    redis.call('ZADD', KEYS[2], 'NX', ARGV[i + 3], reference)
  end
end
return lost
