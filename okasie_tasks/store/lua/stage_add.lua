-- Adds parts to a stage together with the work of each; any worker may take them from then on.
-- KEYS[1]  hash: the stage   KEYS[2] hash: part -> its work; new ones are stored there as "token:0", "token:1", ...
--          KEYS[3] hash: the remainder
-- ARGV     1 token of the extension, 2 parts to add, 3 field of the remainder ("" for none), 4 its value
-- Returns  the number of the first added part
-- Idempotent: the same token adds once; work or a remainder stored under its name a second time is dropped.
local first = redis.call('HGET', KEYS[1], 'x:' .. ARGV[1])
local total = tonumber(first or redis.call('HGET', KEYS[1], 'total') or '0')
for i = 0, tonumber(ARGV[2]) - 1 do
  local name = ARGV[1] .. ':' .. i
  if not first then
    local value = redis.call('HGET', KEYS[2], name)
    if not value then return redis.error_reply('what part ' .. i .. ' of ' .. ARGV[1] .. ' works on is not there') end
    redis.call('HSET', KEYS[2], total + i, value)
  end
  redis.call('HDEL', KEYS[2], name)
end
if not first then
  if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], ARGV[3], ARGV[4]) end
  redis.call('HSET', KEYS[1], 'x:' .. ARGV[1], total, 'total', total + tonumber(ARGV[2]))
end
return total
