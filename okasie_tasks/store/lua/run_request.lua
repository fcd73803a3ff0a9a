-- Requests a run of an account: merges the request into the waiting run, or queues a new one.
-- KEYS[1]  string: id of the run that waits
-- KEYS[2]  string: id of the active run
-- KEYS[3]  zset:   the account's runs, id -> creation time in ms
-- KEYS[4]  hash:   the account; full_day is the newest day whose scheduled full run was requested
-- ARGV     1 key prefix of runs, 2 new run id, 3 account, 4 mode (incremental|full), 5 plan only ("1"|""), 6 runs kept,
--          7 the run whose held plan this run may release, or "",
--          8 the local day (YYYY-MM-DD) whose scheduled full run this is, or ""
-- Returns  {run id to follow, 1 if it is new or was widened else 0}; {"", 0} for a day that has had its run
-- A run that both an approval and an ordinary request wait for is marked as folded: if it may not send the plan, it sends
-- nothing, and the ordinary request needs another run.
-- Invariant: at most one run works and at most one waits; a plan-only run is never merged into one that writes;
--            a day's scheduled full run is requested once, and never after a later day's.
-- Idempotent: the same new id requested twice is the same run.
if ARGV[8] ~= '' then
  if (redis.call('HGET', KEYS[4], 'full_day') or '') >= ARGV[8] then return {'', 0} end
  redis.call('HSET', KEYS[4], 'full_day', ARGV[8])
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local waiting = redis.call('GET', KEYS[1])
if waiting then
  local run = ARGV[1] .. waiting
  local plan = redis.call('HGET', run, 'plan_only') or ''
  if plan == ARGV[5] then
    if ARGV[4] == 'full' then redis.call('HSET', run, 'mode', 'full') end
    local approves = redis.call('HGET', run, 'approves') or ''
    if (approves == '') ~= (ARGV[7] == '') then redis.call('HSET', run, 'folded', '1') end
    if ARGV[7] ~= '' then redis.call('HSET', run, 'approves', ARGV[7]) end
    return {waiting, 0}
  end
  if ARGV[5] == '1' then return {'', 0} end
  -- A run that writes replaces a waiting plan-only run, which changes nothing.
  redis.call('HSET', run, 'state', 'cancelled', 'ended_ms', now)
end
local run = ARGV[1] .. ARGV[2]
redis.call('HSET', run, 'account', ARGV[3], 'mode', ARGV[4], 'plan_only', ARGV[5], 'state', 'queued',
  'created_ms', now, 'progress_ms', now)
if ARGV[7] ~= '' then redis.call('HSET', run, 'approves', ARGV[7]) end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[3], now, ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[6]))
return {ARGV[2], 1}
