-- Requests a permit to send one request now. One atomic step: count, decide, grant or give a place in the queue.
--
-- KEYS   1 log     zset  permit -> latest moment (ms) at which the server can have counted it
--        2 second  zset  permit -> the same for the burst rule
--        3 queue   zset  ticket -> lane * 2^40 + order of arrival
--        4 due     zset  ticket -> moment (ms) at which its holder promised to come back
--        5 state   hash  now, sl, tat, lp, lt, pause, ok, pt, pp, lh, st, fx, fxt, hx, hxt, fo, seq, m (see limiter.py)
--        6 asked   hash  ticket that waits -> moment (ms) at which it first asked
-- ARGV   1 ticket  2 permit id to grant  3 lane (0 urgent, 1 bulk)  4 hold (ms): total time-out of the call
--        5 requests per minute (ceiling)  6 burst per second  7 follow a higher limit ("1" or "")
--        8 clock (ms; tests only, else "" for Redis TIME)
-- Returns {0, ms until it may be sent, ms waited since the ticket first asked} or {1, ms until to ask again, reason}.
--
-- Invariant: for any arrival times between grant and stamp, no interval of 60 s holds more than n requests, and no
-- second more than `burst` (as long as a request reaches the server within a second). Nothing is granted before `pause`,
-- and while probing one request in 10 s unless it was answered. A ticket reserves nothing. `tests/limiter_model.py` is this
-- step in plain Python, to the same last digit.

local WINDOW, BURST_WINDOW, BURST_HOLD = 60050, 1005, 1000
local CATCH_UP = 3
local HORIZON, LATE, GONE, LONGEST, LEAD, TURN = 20, 100, 5000, 12000, 0.98, 9
local FORGET, HALF_LIFE = 10000, 21600000
local BULK = 1099511627776 -- 2^40

local log, second, queue, due, state, asked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local ticket, permit, lane, hold = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local h = redis.call('HMGET', state, 'now', 'sl', 'tat', 'pause', 'ok', 'pt', 'lh', 'st',
  'fx', 'fxt', 'hx', 'hxt', 'm')
local now = tonumber(ARGV[8])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = math.max(now, tonumber(h[1] or 0))

-- A client library may send a command twice: the same permit is granted once, for the same moment.
local already = redis.call('ZSCORE', log, permit)
if already then return {0, math.max(0, already - hold - now), 0} end

local n = tonumber(ARGV[5])
local announced = tonumber(h[2] or n)
if ARGV[7] == '1' then n = announced else n = math.min(n, announced) end
-- Caution after refusals that nothing explained: fewer requests for minutes, a slower pace for hours.
local fewer = math.max(0, tonumber(h[9] or 0) - (now - tonumber(h[10] or now)) / FORGET)
local slower = tonumber(h[11] or 0) * 0.5 ^ ((now - tonumber(h[12] or now)) / HALF_LIFE)
n = math.max(n - math.ceil(fewer), 1)
local burst = tonumber(ARGV[6])
local headroom = math.min(0.65, n * 0.1)
local tau = (WINDOW + tonumber(h[7] or 0)) / math.max(n - headroom - slower, n * 0.5)
local tat, pause, probing = tonumber(h[3] or 0), tonumber(h[4] or 0), h[5] ~= '1'
-- Another server answers than before: the log may lack the last permits. A probe's answer shows what the marketplace
-- has counted. Without the right to call INFO, the next answer shows it all the same.
local info = redis.pcall('INFO', 'replication')
local master = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or h[13]
if master and master ~= h[13] then
  redis.call('HSET', state, 'm', master)
  if h[13] then
    redis.call('HSET', state, 'ok', '0', 'pt', '0')
    h[6], probing = false, true
  end
end
local probed, streak = tonumber(h[6] or 0), tonumber(h[8] or 0)
local slop, late = math.min(450, tau * LEAD), math.min(LATE, tau * 0.2 + 1)

redis.call('ZREMRANGEBYSCORE', log, '-inf', now - WINDOW - 5000)
redis.call('ZREMRANGEBYSCORE', second, '-inf', now - BURST_WINDOW)
local gone = redis.call('ZRANGEBYSCORE', due, '-inf', now - GONE, 'LIMIT', 0, 64)
if #gone > 0 then
  redis.call('ZREM', due, unpack(gone))
  redis.call('ZREM', queue, unpack(gone))
  redis.call('HDEL', asked, unpack(gone))
end

local collection = tonumber(redis.call('ZSCORE', queue, ticket) or -1)
local waited = collection >= 0
local since = waited and tonumber(redis.call('HGET', asked, ticket) or now) or now
if not waited then
  collection = lane * BULK + redis.call('HINCRBY', state, 'seq', 1)
  redis.call('ZADD', queue, string.format('%.0f', collection), ticket)
end
local bulk_waits = redis.call('ZCOUNT', queue, BULK, '+inf') > 0
local bulk_turn = streak >= TURN and bulk_waits

-- When does the log, the burst log, the pause or the probe let a request through?
local t, why = now, 'pace'
if pause > t then t, why = pause, 'pause' end
local used = redis.call('ZCOUNT', log, '(' .. (now - WINDOW), '+inf')
if used >= n then
  local oldest = redis.call('ZRANGEBYSCORE', log, '(' .. (now - WINDOW), '+inf', 'WITHSCORES', 'LIMIT', used - n, 1)
  local stamp = tonumber(oldest[2])
  local free = stamp > now and now + 200 or stamp + WINDOW + 1
  if free > t then t, why = free, 'quota' end
end
if probing and probed > 0 and now - probed < 10000 and now + 100 > t then t, why = now + 100, 'probe' end
if redis.call('ZCARD', second) >= burst then
  local newest = redis.call('ZREVRANGE', second, burst - 1, burst - 1, 'WITHSCORES')
  local stamp = tonumber(newest[2])
  local free = stamp > now and now + 60 or stamp + BURST_WINDOW + 1
  if free > t then t, why = free, 'burst' end
end
if lane == 1 and not bulk_turn then t = math.max(t, tat) end

-- A free slot belongs to an earlier ticket that is due about now; without one, the caller takes it.
local blocked = false
if t <= now + HORIZON then
  local before
  if bulk_turn then
    before = lane == 1 and redis.call('ZRANGEBYSCORE', queue, BULK, '(' .. string.format('%.0f', collection), 'LIMIT', 0, 8)
      or redis.call('ZRANGEBYSCORE', queue, BULK, '+inf', 'LIMIT', 0, 1)
  else
    before = redis.call('ZRANGEBYSCORE', queue, '-inf', '(' .. string.format('%.0f', collection), 'LIMIT', 0, 8)
  end
  for _, other in ipairs(before) do
    local promised = tonumber(redis.call('ZSCORE', due, other) or -1)
    -- Among bulk tickets the caller takes the slot, so that the tickets of a dead worker block no other.
    local reserved = slop
    if lane == 1 and tonumber(redis.call('ZSCORE', queue, other)) >= BULK then reserved = math.min(slop, LATE) end
    if promised >= now - late and promised <= now + reserved then blocked = true end
  end
end

local answer
if t <= now + HORIZON and not blocked then
  t = math.ceil(t)
  redis.call('ZREM', queue, ticket)
  redis.call('ZREM', due, ticket)
  if waited then redis.call('HDEL', asked, ticket) end
  redis.call('ZADD', log, t + hold, permit)
  redis.call('ZADD', second, t + BURST_HOLD, permit)
  -- After a stall, up to CATCH_UP slots are granted at once: no kind of window refuses four in a row.
  local paced = string.format('%.3f', math.min(math.max(tat, t - CATCH_UP * tau) + tau, t + 4 * tau))
  if lane == 1 then streak = 0 elseif bulk_waits then streak = streak + 1 end
  -- The pace before this grant, for a permit that comes back unused.
  redis.call('HSET', state, 'now', now, 'tat', paced, 'st', streak, 'lp', permit, 'lt', string.format('%.3f', tat))
  if probing then redis.call('HSET', state, 'pt', t, 'pp', permit) end
  -- Longer than any entry counts; another call's shorter time-out must not cut it.
  local keep = 2 * WINDOW + hold
  if redis.call('PTTL', log) < keep then redis.call('PEXPIRE', log, keep) end
  redis.call('PEXPIRE', second, 60000)
  answer = {0, t - now, t - since}
else
  local ahead = redis.call('ZRANK', queue, ticket)
  if lane == 1 then
    local bulk_ahead = redis.call('ZCOUNT', queue, BULK, '(' .. string.format('%.0f', collection))
    ahead = math.min(ahead, bulk_ahead * (TURN + 1) + math.max(TURN - streak, 0))
  end
  local step = (lane == 0 and used < n) and math.min(250, tau) or tau
  local first = (blocked and ahead == 0) and tau or 0
  local wait = math.max(t - now, first) + ahead * step * LEAD
  wait = math.ceil(math.min(math.max(wait, 5), LONGEST))
  redis.call('ZADD', due, now + wait, ticket)
  if not waited then redis.call('HSET', asked, ticket, now) end
  redis.call('PEXPIRE', asked, 60000)
  redis.call('HSET', state, 'now', now)
  answer = {1, wait, blocked and 'queue' or why}
end
redis.call('PEXPIRE', queue, 60000)
redis.call('PEXPIRE', due, 60000)
redis.call('PEXPIRE', state, 86400000)
return answer
