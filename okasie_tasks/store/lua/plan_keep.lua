-- Holds a plan for an account, in place of the one that it holds.
-- KEYS[1]  hash: the held plan (run, plan, changes)
-- ARGV     1 key prefix of runs, 2 id of the run that holds it first, 3 the plan, 4 the values that it changes
-- Returns  nothing
-- Invariant: the record of a replaced plan's run is not left as held: it is dropped, and names the run that replaced it.
local before = redis.call('HGET', KEYS[1], 'run')
if before and before ~= ARGV[2] and redis.call('HGET', ARGV[1] .. before, 'state') == 'held' then
  redis.call('HSET', ARGV[1] .. before, 'state', 'dropped', 'replaced_by', ARGV[2])
end
redis.call('HSET', KEYS[1], 'run', ARGV[2], 'plan', ARGV[3], 'changes', ARGV[4])
