-- Adds, replaces or removes pending changes, each only if the queue still holds what the caller read.
--
-- KEYS   1 changes hash  reference -> packed change
--        2 order   zset  reference -> moment (ms) of its first acceptance
-- ARGV   quadruples: reference, change as read ("" for none), new change ("" removes it), moment (ms)
-- Returns the references that another process changed since (not written here).
--
-- Idempotent under a client's retry: the retry finds the new state.

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
