-- Takes the next due alert to send it, under a lease: one sender gets it, and another one after the lease if it dies.
-- KEYS[1]  zset: slot -> when it is due (ms)   KEYS[2] hash: slot -> what waits   KEYS[3] zset: messages of the last hour
-- ARGV     1 most messages of a channel in an hour, 2 ms of the lease
-- Returns  nil when nothing is due, else {slot, key, alert, count, tries so far}
-- Invariant: of a channel at most ARGV[1] alerts are taken for the first time in an hour; others stay due for later.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now - 3600000))
for _, slot in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, 50)) do
  local raw = redis.call('HGET', KEYS[2], slot)
  if not raw then
    redis.call('ZREM', KEYS[1], slot)
  else
    local waits, channel = cjson.decode(raw), string.match(slot, '^%S+') .. ' '
    local sent, first = 0, nil
    local hour = redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES')
    for i = 1, #hour, 2 do
      if string.sub(hour[i], 1, #channel) == channel then sent = sent + 1; first = first or hour[i + 1] end
    end
    if waits.tries == 0 and sent >= tonumber(ARGV[1]) then
      redis.call('ZADD', KEYS[1], string.format('%.0f', tonumber(first) + 3600001), slot)
    else
      if waits.tries == 0 then redis.call('ZADD', KEYS[3], string.format('%.0f', now), slot .. ' ' .. waits.key) end
      local tries = waits.tries
      waits.tries = tries + 1
      redis.call('HSET', KEYS[2], slot, cjson.encode(waits))
      redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), slot)
      return {slot, waits.key, waits.alert, waits.count, tries}
    end
  end
end
return nil
