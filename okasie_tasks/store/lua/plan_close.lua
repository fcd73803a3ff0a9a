-- Closes the plan that an account holds, once, if it is still this one.
-- KEYS[1]  hash: the held plan (run, plan)   KEYS[2] hash: the record of the run that first held it
-- ARGV     1 id of that run, 2 the state that its record gets (done|dropped|expired),
--          3 id of the run that planned anew and holds nothing, or ""
-- Returns  1 if this call closed it, else 0
-- Invariant: a plan is released, dropped or expired once; a newer plan is not changed.
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('HGET', KEYS[2], 'state') == 'held' then
  redis.call('HSET', KEYS[2], 'state', ARGV[2])
  if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], 'replaced_by', ARGV[3]) end
end
return 1
