-- Cancels a run: a waiting one ends now, an active one once its parts in progress are finished.
-- KEYS[1]  hash: the run   KEYS[2] string: id of the account's run that waits
-- ARGV     1 run id, 2 seconds to keep the record of a run that ends here
-- Returns  the state that the run was in; "" when there is no such run
-- Invariant: an ended run is not changed. A second cancel keeps the first time.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local state = redis.call('HGET', KEYS[1], 'state') or ''
if state == 'running' then
  redis.call('HSETNX', KEYS[1], 'cancel_ms', now)
elseif state == 'queued' then
  redis.call('HSET', KEYS[1], 'state', 'cancelled', 'ended_ms', now, 'cancel_ms', now)
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
end
return state
