-- Releases a claim, so that the part is open at once.
-- KEYS[1]  hash: parts
-- ARGV     1 part, 2 token, 3 "1" when the attempt does not count
-- Returns  attempts that count so far
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held or held == 'D' or held == 'F' then return 0 end
local attempts, token = string.match(held, '^(%d+) %d+ (.*)$')
if token ~= ARGV[2] then return tonumber(attempts) end
attempts = tonumber(attempts)
if ARGV[3] == '1' then attempts = math.max(0, attempts - 1) end
redis.call('HSET', KEYS[1], ARGV[1], attempts .. ' 0 ')
return attempts
