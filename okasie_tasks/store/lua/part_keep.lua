-- Extends a claim while its holder works.
-- KEYS[1]  hash: parts
-- ARGV     1 part, 2 token, 3 lease in ms from now
-- Returns  the time in ms if it is still the holder's, else 0
-- Invariant: a part that was closed, released or taken over since is not changed.
local held = redis.call('HGET', KEYS[1], ARGV[1])
local attempts, untilms, token = string.match(held or '', '^(%d+) (%d+) (.*)$')
if token ~= ARGV[2] or untilms == '0' then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], attempts .. ' ' .. (now + tonumber(ARGV[3])) .. ' ' .. token)
return now
