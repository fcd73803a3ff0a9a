-- Takes the next unpublished part of the run's current stage: publishes and claims it in one step, so that it is never
-- without a holder.
-- KEYS[1]  hash: the run   KEYS[2] hash: the stage   KEYS[3] hash: parts (see part_claim.lua)
-- KEYS[4]  hash: part -> its work, or none
-- ARGV     1 phase, 2 token, 3 lease in ms, 4 seconds to keep the parts, 5 parts that may be open, this one included,
--          6 prefix of accounts
-- Returns  {"claimed", number, fields and values of the run, its work} | {"none", -1}: all are published, or enough are
--          open | {"ended", -1} | {"cancelled", -1} the run is cancelled | {"paused", -1} the account is paused
-- Invariant: as in stage_publish.lua each part is published by one caller, and as in part_claim.lua none is handed out
-- after an operator has cancelled the run or paused the account.
local run = redis.call('HMGET', KEYS[1], 'state', 'stage', 'account', 'cancel_ms')
if run[1] ~= 'running' or run[2] ~= ARGV[1] then return {'ended', -1} end
if run[4] then return {'cancelled', -1} end
if redis.call('EXISTS', ARGV[6] .. (run[3] or '') .. ':paused') == 1 then return {'paused', -1} end
local stage = redis.call('HMGET', KEYS[2], 'total', 'published', 'closed')
local published = tonumber(stage[2] or '0')
if published >= tonumber(stage[1] or '0') or published - tonumber(stage[3] or '0') >= tonumber(ARGV[5]) then
  return {'none', -1}
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[2], 'published', published + 1)
redis.call('HSET', KEYS[3], published, '1 ' .. (now + ARGV[3]) .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[4])
redis.call('HSET', KEYS[1], 'progress_ms', now)
return {'claimed', published, redis.call('HGETALL', KEYS[1]), KEYS[4] and redis.call('HGET', KEYS[4], published)}
