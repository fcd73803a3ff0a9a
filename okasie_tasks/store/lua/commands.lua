-- Executes commands one after another, in one step with the scripts beside it (see `okasie_tasks.store.scripts.Steps`).
-- KEYS     none: they are in the commands
-- ARGV     of each command: how many texts follow, then its name and its arguments
-- Returns  the reply to each
local replies, at = {}, 1
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  replies[#replies + 1] = redis.call(unpack(ARGV, at + 1, last)) or false
  at = last + 1
end
return replies
