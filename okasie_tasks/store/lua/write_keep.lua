-- Extends the write locks of some listings, or releases them.
--
-- KEYS   1 writing  hash  reference -> "until (ms, Redis time) token"
-- ARGV   1 token  2 how long from now (ms); 0 releases  3... references
-- Returns how many were still held. Invariant: a lock that another holder has taken since is not changed.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lock = string.format('%.0f', now + tonumber(ARGV[2])) .. ' ' .. ARGV[1]
local kept, locks = {}, {}
for i, held in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 3))) do
  if held and string.match(held, '^%d+ (.*)$') == ARGV[1] then
    local reference = ARGV[i + 2]
    kept[#kept + 1] = reference
    locks[#locks + 1] = reference
    locks[#locks + 1] = lock
  end
end
if #kept > 0 and ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], unpack(kept))
elseif #kept > 0 then
  redis.call('HSET', KEYS[1], unpack(locks))
end
return #kept
