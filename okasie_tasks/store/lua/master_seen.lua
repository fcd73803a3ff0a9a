-- Notes which master answers, and after a failover since when it may lack writes that the old one had confirmed.
--
-- KEYS   1 master     hash  id: replication id of the master; run: id of its process; at_ms: when a worker last looked
--        2 failovers  zset  "from until" -> until (ms): the interval whose writes may be lost
-- ARGV   1 now (ms)  2 "1" behind sentinels, where a server that restarts is replaced  3 failovers to keep
-- Returns the failovers, oldest first; none where the user may not call INFO.
--
-- Invariant: a replica has a prefix of the master's writes. So `at_ms` of the new master is a moment before the first
-- lost write, and every write after it may be lost. A server that has only restarted is no failover: its append-only
-- file has its writes.
-- The same process takes another replication id when its first replica attaches, and when none has for an hour
-- (repl-backlog-ttl). Both clear its second id. A promotion sets the second id to that of the master before.

local info, server = redis.pcall('INFO', 'replication'), redis.pcall('INFO', 'server')
if type(info) ~= 'string' or type(server) ~= 'string' then return {} end
local id, run, now = string.match(info, 'master_replid:(%x+)'), string.match(server, 'run_id:(%x+)'), tonumber(ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'id', 'at_ms', 'run')
local at = tonumber(known[2] or now)
if known[1] and id and known[1] ~= id then
  local same = run and known[3] == run
  local promoted = string.find(info, 'master_replid2:0*[1-9a-f]')
  local started = now - 1000 * tonumber(string.match(server, 'uptime_in_seconds:(%d+)') or 0)
  if same and promoted or not same and (ARGV[2] == '1' or started < at - 2000) then
    redis.call('ZADD', KEYS[2], now, string.format('%.0f %.0f', at, now))
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[3]))
  end
end
redis.call('HSET', KEYS[1], 'id', id or '', 'run', run or '', 'at_ms', string.format('%.0f', math.max(at, now)))
return redis.call('ZRANGE', KEYS[2], 0, -1)
