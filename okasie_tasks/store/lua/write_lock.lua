-- Takes the write locks of some listings.
--
-- KEYS   1 writing  hash  reference -> "until (ms, Redis time) token"
-- ARGV   1 token  2 lease (ms)  3 "all": every one or none, "some": those that are free  4... references
-- Returns the references that the caller holds now.
--
-- Invariant: a reference has one holder until it is released or its lease expires. Idempotent.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, lease, all = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'all'
local lock = string.format('%.0f', now + lease) .. ' ' .. token
local free, locks = {}, {}
for i, held in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 4))) do
  local till, holder = string.match(held or '', '^(%d+) (.*)$')
  if not held or holder == token or tonumber(till) <= now then
    local reference = ARGV[i + 3]
    free[#free + 1] = reference
    locks[#locks + 1] = reference
    locks[#locks + 1] = lock
  elseif all then
    return {}
  end
end
if #free > 0 then
  redis.call('HSET', KEYS[1], unpack(locks))
end
redis.call('PEXPIRE', KEYS[1], 3600000)
return free
