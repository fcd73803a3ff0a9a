-- Records when a push was accepted, once: when its producer stored it, or now if that is not known. Neither a late nor
-- a repeated delivery changes it, so the older of two requests stays the older one.
--
-- KEYS   1 push  hash  at, made (ms, Redis time), withdrawn, error, and outcomes
-- ARGV   1 how long to keep it (s)
-- Returns the moment (ms), or 0 when the push was withdrawn or has failed as a whole before.

if redis.call('HEXISTS', KEYS[1], 'withdrawn') == 1 or redis.call('HEXISTS', KEYS[1], 'error') == 1 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local made = tonumber(redis.call('HGET', KEYS[1], 'made')) or now
redis.call('HSETNX', KEYS[1], 'at', string.format('%.0f', math.min(made, now)))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return tonumber(redis.call('HGET', KEYS[1], 'at'))
