-- Ends a run, once: state, the cursor by compare-and-set, the account's lease, the account's counters.
-- KEYS[1]  hash: the run   KEYS[2] hash: the account   KEYS[3] string: run at work   KEYS[4] string: run that waits
-- KEYS[5]  hash: counters (see request_stats.py); a run that only planned is not counted
-- KEYS[6]  list: ended runs to raise alerts for (see alerting/queue.py); at most the newest 500, in case they are not read
-- ARGV     1 run id, 2 state, 3 new cursor ("" leaves it), 4 generation of the cursor as read at the start,
--          5 seconds to keep the record, then field, value pairs for the account, written with the cursor only
-- Returns  {1 if this call ended it else 0, id of the run that waits or ""}
-- Invariant: the cursor moves only with the run that read it, and never after the run has ended.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local waiting = redis.call('GET', KEYS[4]) or ''
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'running' and state ~= 'queued' then return {0, waiting} end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'ended_ms', now)
redis.call('EXPIRE', KEYS[1], ARGV[5])
local r = redis.call('HMGET', KEYS[1], 'mode', 'created_ms', 'listings', 'plan_only', 'lost_new', 'waiting_alert', 'new_rejects')
local mode, ended = r[1] or 'unknown', ARGV[2]
if r[4] ~= '1' then
  redis.call('HINCRBY', KEYS[5], 'runs:' .. mode .. ':' .. ended, 1)
  local good = ended == 'done' or ended == 'held'
  if (good or ended == 'partial') and r[3] then
    redis.call('HSET', KEYS[5], 'run_ms:' .. mode, now - (r[2] or now), 'listings:' .. mode, r[3], 'last_mode', mode)
  end
  if good then redis.call('HSET', KEYS[5], 'success_ms:' .. mode, now) end
  if ended == 'held' or ended == 'failed' or ended == 'partial' or r[5] == '1' or r[6] == '1'
    or tonumber(r[7] or 0) > 0 then
    redis.call('RPUSH', KEYS[6], ARGV[1])
    redis.call('LTRIM', KEYS[6], -500, -1)
  end
end
local generation = redis.call('HGET', KEYS[2], 'generation') or '0'
if ARGV[3] ~= '' and generation == ARGV[4] then
  redis.call('HSET', KEYS[2], 'cursor', ARGV[3], 'cursor_run', ARGV[1])
  redis.call('HINCRBY', KEYS[2], 'generation', 1)
  for i = 6, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
  redis.call('HSET', KEYS[1], 'cursor', ARGV[3])
end
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
if waiting == ARGV[1] then redis.call('DEL', KEYS[4]); waiting = '' end
return {1, waiting}
