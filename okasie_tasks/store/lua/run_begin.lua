-- Starts the waiting run of an account, unless one is active.
-- KEYS[1]  string: id of the run that waits
-- KEYS[2]  string: id of the active run, which is the account's lease
-- KEYS[3]  hash:   the account; its cursor, generation and rows are what the run starts from
-- KEYS[4]  string: since when the account is paused, if it is
-- ARGV     1 key prefix of runs, 2 first stage, 3 seconds to keep the stage
-- Returns  the id of the run that begins now, or ""; each run has a number, one more than the last one's
-- Invariant: one run per account, and none starts while an operator has paused it. An active run whose record is ended loses the lease.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('EXISTS', KEYS[4]) == 1 then return '' end
local active = redis.call('GET', KEYS[2])
if active then
  if redis.call('HGET', ARGV[1] .. active, 'state') == 'running' then return '' end
  redis.call('DEL', KEYS[2])
end
local waiting = redis.call('GET', KEYS[1])
if not waiting then return '' end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], waiting)
local from = redis.call('HMGET', KEYS[3], 'cursor', 'generation', 'rows')
redis.call('HSET', ARGV[1] .. waiting, 'state', 'running', 'stage', ARGV[2], 'started_ms', now, 'progress_ms', now,
  'cursor_from', from[1] or '', 'generation', from[2] or '0', 'rows_before', from[3] or '0',
  'number', redis.call('HINCRBY', KEYS[3], 'run_number', 1))
redis.call('HSETNX', ARGV[1] .. waiting .. ':' .. ARGV[2], 'total', 1)
redis.call('EXPIRE', ARGV[1] .. waiting .. ':' .. ARGV[2], ARGV[3])
return waiting
