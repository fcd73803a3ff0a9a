-- Claims a part of the stage that the run is in, with a lease and a fencing token.
-- KEYS[1]  hash: the run   KEYS[2] hash: parts, number -> "D" done | "F" failed | "attempts until_ms token"
-- KEYS[3]  hash: part -> its work, or none
-- ARGV     1 phase, 2 part, 3 token: the message's id, or "id/once" with a random word per delivery,
--          4 lease in ms, 5 seconds to keep the parts, 6 attempts after which it is not claimed again, 7 prefix of accounts
-- Returns  {"claimed", attempts so far with this one, fields and values of the run, its work} | {"closed", 0}
--          | {"busy", ms left} | {"ended", 0}
--          | {"cancelled", 0} the run is cancelled | {"paused", 0} the account is paused
--          | {"spent", attempts}: it was claimed that often without a result; the watchdog closes it
-- Invariant: a part is worked on under one token at a time; an expired lease may be taken over, and so may that of the
-- same message's delivery before this one: the broker redelivers a message whose worker died before acknowledging it.
-- A delivery that claims again continues its attempt, even after its lease if no other worker took the part.
-- None is handed out after an operator has cancelled the run or paused the account.
local function claimed(attempts)
  return {'claimed', attempts, redis.call('HGETALL', KEYS[1]), KEYS[3] and redis.call('HGET', KEYS[3], ARGV[2])}
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local run = redis.call('HMGET', KEYS[1], 'state', 'stage', 'account', 'cancel_ms')
if run[1] ~= 'running' or run[2] ~= ARGV[1] then return {'ended', 0} end
if run[4] then return {'cancelled', 0} end
if redis.call('EXISTS', ARGV[7] .. (run[3] or '') .. ':paused') == 1 then return {'paused', 0} end
local held = redis.call('HGET', KEYS[2], ARGV[2])
local attempts = 0
if held == 'D' or held == 'F' then return {'closed', 0} end
if held then
  local a, untilms, token = string.match(held, '^(%d+) (%d+) (.*)$')
  attempts = tonumber(a)
  if token == ARGV[3] and untilms ~= '0' then
    local till = math.max(tonumber(untilms), now + tonumber(ARGV[4]))
    redis.call('HSET', KEYS[2], ARGV[2], attempts .. ' ' .. till .. ' ' .. token)
    return claimed(attempts)
  end
  if tonumber(untilms) > now then
    if string.match(token, '^[^/]*') ~= string.match(ARGV[3], '^[^/]*') then
      return {'busy', tonumber(untilms) - now}
    end
  end
  if attempts >= tonumber(ARGV[6]) then
    -- End its lease, so that the watchdog need not wait for it. The last holder may still close the part.
    redis.call('HSET', KEYS[2], ARGV[2], attempts .. ' 0 ' .. token)
    return {'spent', attempts}
  end
end
attempts = attempts + 1
redis.call('HSET', KEYS[2], ARGV[2], attempts .. ' ' .. (now + tonumber(ARGV[4])) .. ' ' .. ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('HSET', KEYS[1], 'progress_ms', now)
return claimed(attempts)
