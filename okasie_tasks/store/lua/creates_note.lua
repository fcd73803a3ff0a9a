-- Notes creates that are about to be sent, if their sender still holds the write locks of all of them.
--
-- KEYS   1 writing  hash  reference -> "until (ms, Redis time) token"   2 creates  set of references
-- ARGV   1 token of the locks  2 how long to keep the notes (s)  3... references
-- Returns 1 if they are noted, else 0.
--
-- Invariant: a sender that stood still and lost its locks leaves no note behind the answer of another sender.

for _, held in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 3))) do
  if not held or string.match(held, '^%d+ (.*)$') ~= ARGV[1] then
    return 0
  end
end
redis.call('SADD', KEYS[2], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
