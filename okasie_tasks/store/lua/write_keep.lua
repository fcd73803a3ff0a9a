-- Extends the write locks of some listings, or releases them.
--
-- KEYS   1 writing  hash  reference -> "until (ms, Redis time) token"
-- ARGV   1 token  2 how long from now (ms); 0 releases  3... references
-- Returns how many were still held. Invariant: a lock that another holder has taken since is not changed.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = 0
for i = 3, #ARGV do
  local holder = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^%d+ (.*)$')
  if holder == ARGV[1] then
    kept = kept + 1
    if ARGV[2] == '0' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', now + tonumber(ARGV[2])) .. ' ' .. ARGV[1])
    end
  end
end
return kept
