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
local free = {}
for i = 4, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  local till, holder = string.match(held or '', '^(%d+) (.*)$')
  if not held or holder == token or tonumber(till) <= now then
    free[#free + 1] = ARGV[i]
  elseif all then
    return {}
  end
end
for _, reference in ipairs(free) do
  redis.call('HSET', KEYS[1], reference, string.format('%.0f', now + lease) .. ' ' .. token)
end
redis.call('PEXPIRE', KEYS[1], 3600000)
return free
