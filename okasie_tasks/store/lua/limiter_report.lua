-- Reports the response to a permit: the latest moment at which the server counted it, and the quota in its headers.
--
-- KEYS   1 log  2 second  3 state (see limiter_acquire.lua)
-- ARGV   1 permit  2 status: HTTP status, 0 no answer though bytes were written, -1 never connected
--        3 limit  4 remaining  5 retry after (ms), of a 429 or a failure  6 hold (ms) as given at the grant
--        7 requests per minute (ceiling)  8 follow a higher limit ("1" or "")
--        9 clock (ms; tests only); 3 to 5 may be ""
-- Returns 1, or 0 when this permit was reported, cancelled or forgotten before.
--
-- Invariant: a stamp only falls, and never below the moment of the answer; the server's remaining count only ever
-- takes quota away from us, never adds; nothing is granted before `pause`; only a request sent after the pause can
-- end the probing, or prolong it by a failure. `tests/limiter_model.py` is this step in plain Python, to the same last digit.

local WINDOW, FOREIGN, FAILURES = 60050, 3, 5
local FORGET, HALF_LIFE, MOST_SLOWER = 10000, 21600000, 3
local log, second, state = KEYS[1], KEYS[2], KEYS[3]
local permit, status, hold = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[6])
local h = redis.call('HMGET', state, 'now', 'sl', 'lc', 'lv', 'lh', 'cf', 'co', 'pause', 'ok', 'pp',
  'fx', 'fxt', 'hx', 'hxt', 'fo', 'tat')
local now = tonumber(ARGV[9])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = math.max(now, tonumber(h[1] or 0))

local stamp = tonumber(redis.call('ZSCORE', log, permit) or -1)
if stamp <= now then return 0 end
local granted = stamp - hold
local set = {'now', now}
local function put(name, value) set[#set + 1] = name; set[#set + 1] = value end

if status == -1 then
  redis.call('ZREM', log, permit)
  redis.call('ZREM', second, permit)
elseif status > 0 then
  redis.call('ZADD', log, now, permit)
  local burst_stamp = redis.call('ZSCORE', second, permit)
  if burst_stamp and tonumber(burst_stamp) > now then redis.call('ZADD', second, now, permit) end
  local mean = tonumber(h[5] or 0)
  put('lh', string.format('%.1f', mean + 0.05 * (math.min(now - granted, 5000) - mean)))
end

local explained = false
local limit, remaining = tonumber(ARGV[3]), tonumber(ARGV[4])
local announced = tonumber(h[2] or -1)
if limit and limit >= 1 then
  if announced < 0 or limit < announced then
    explained = announced >= 0 or limit < tonumber(ARGV[7])
    announced = limit
    put('sl', limit); put('lc', 0)
  elseif limit > announced then
    local seen = tonumber(h[4] or -1) == limit and tonumber(h[3] or 0) + 1 or 1
    if seen >= 3 then
      announced, seen = limit, 0
      put('sl', limit)
    end
    put('lv', limit); put('lc', seen)
  elseif (h[3] or '0') ~= '0' then
    put('lc', 0) -- in a row, or it does not count
  end
end
local n = tonumber(ARGV[7])
if announced > 0 and (ARGV[8] == '1' or announced < n) then n = announced end

if limit and limit >= 1 and remaining and remaining >= 0 and status > 0 then
  -- Requests counted only by the server: another client of this key, or requests lost with Redis data.
  local own = redis.call('ZCOUNT', log, granted - WINDOW, '+inf')
  local foreign = limit - remaining - own - math.max(0, limit - n)
  if foreign >= FOREIGN then
    explained = true
    put('fo', now)
    -- Stamped now: not by the server's reset, which on a sliding window frees one request, not all (ports.Feedback).
    for i = 1, math.min(foreign, 1000) do redis.call('ZADD', log, now, '~' .. permit .. ':' .. i) end
    if redis.call('PTTL', log) < 2 * WINDOW then redis.call('PEXPIRE', log, 2 * WINDOW) end
  end
end

local pause, tat = tonumber(h[8] or 0), tonumber(h[16] or 0)
local function pause_until(moment, reason)
  if moment > pause then pause = moment; put('pause', moment); put('pr', reason) end
  tat = math.max(tat, moment) -- a pause is not made up for
  put('tat', string.format('%.3f', tat))
  put('ok', '0')
end
if h[10] == permit then put('pt', '0') end
if status == 429 then
  if h[9] == '1' and not explained then
    -- The log allowed the request: reduce the limit for some minutes, and the pace for some hours.
    local fewer = math.max(0, tonumber(h[11] or 0) - (now - tonumber(h[12] or now)) / FORGET)
    local slower = tonumber(h[13] or 0) * 0.5 ^ ((now - tonumber(h[14] or now)) / HALF_LIFE)
    put('fx', string.format('%.3f', math.min(fewer + n * 0.05, n * 0.5))); put('fxt', now)
    -- Another client on the key lasts minutes; a server that counts differently than we do, hours.
    if now - tonumber(h[15] or -WINDOW) >= WINDOW then
      put('hx', string.format('%.3f', math.min(slower + 1, MOST_SLOWER))); put('hxt', now)
    end
  end
  pause_until(now + (tonumber(ARGV[5]) or 1000), '429')
  put('cf', 0)
elseif granted < pause then
  -- Sent before the pause: it proves nothing about the time after it.
elseif status >= 500 or status <= 0 then
  if tonumber(ARGV[5]) then pause_until(now + tonumber(ARGV[5]), 'retry-after') end
  -- Five in a row open the breaker; after that, until one succeeds, each probe that fails opens it again.
  local failures, opened = tonumber(h[6] or 0) + 1, tonumber(h[7] or 0)
  if failures >= FAILURES or opened > 0 then
    pause_until(now + math.min(5000 * 2 ^ opened, 300000), 'breaker')
    put('co', opened + 1); failures = 0
  end
  put('cf', failures)
else
  put('ok', '1'); put('pt', '0'); put('cf', 0); put('co', 0)
end
redis.call('HSET', state, unpack(set))
redis.call('PEXPIRE', state, 86400000)
return 1
