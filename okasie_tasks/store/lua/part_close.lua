-- Closes a claimed part as done or failed, and keeps its small result and its records.
-- KEYS[1]  hash: the run   KEYS[2] hash: the stage   KEYS[3] hash: parts   KEYS[4] hash: results
-- KEYS[5]  prefix of the run's collections (hashes)   KEYS[6] set: names of the collections
-- KEYS[7]  hash that gets a value in the same step, or none
-- ARGV     1 part, 2 token, 3 "D"|"F", 4 result (bytes), 5 seconds to keep, of records at least half of it, 6 how many
--          published parts may be open when the next window is published; "" where that depends on other stages too,
--          7 collection from which its work is deleted, or "", 8 field of its records, 9 field and 10 value in KEYS[7],
--          then pairs: collection, record
-- Returns  1 if this call closed it, 2 if besides nothing is to be published after it, 3 if it was the last of its stage
--          (where ARGV 6 is given), 0 if it was closed already or the claim was lost to another (fenced)
-- Invariant: the records of a closed part are complete, and a worker that lost its claim stores none.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held = redis.call('HGET', KEYS[3], ARGV[1])
if not held or held == 'D' or held == 'F' then return 0 end
local token = string.match(held, '^%d+ %d+ (.*)$')
if token ~= ARGV[2] then return 0 end
if KEYS[7] then redis.call('HSET', KEYS[7], ARGV[9], ARGV[10]) end
for i = 11, #ARGV, 2 do
  local key = KEYS[5] .. ARGV[i]
  redis.call('HSET', key, ARGV[8], ARGV[i + 1])
  if redis.call('TTL', key) < ARGV[5] / 2 then -- it is new, or old
    redis.call('EXPIRE', key, ARGV[5])
    redis.call('SADD', KEYS[6], ARGV[i])
    redis.call('EXPIRE', KEYS[6], ARGV[5])
  end
end
if ARGV[7] ~= '' then redis.call('HDEL', KEYS[5] .. ARGV[7], ARGV[1]) end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[4])
redis.call('EXPIRE', KEYS[4], ARGV[5])
local closed = redis.call('HINCRBY', KEYS[2], 'closed', 1)
if ARGV[3] == 'F' then redis.call('HINCRBY', KEYS[2], 'failed', 1) end
redis.call('HSET', KEYS[1], 'progress_ms', now)
if ARGV[6] == '' then return 1 end
local stage = redis.call('HMGET', KEYS[2], 'total', 'published')
if closed >= tonumber(stage[1] or '0') then return 3 end
local published = tonumber(stage[2] or '0')
if published >= tonumber(stage[1] or '0') or published - closed > tonumber(ARGV[6]) then return 2 end
return 1
