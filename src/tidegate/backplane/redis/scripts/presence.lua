-- Write which users of a room are on a node, and tell the other nodes.
--
-- KEYS: 1 the nodes that have users there, 2 the users on this node, and under '' the number of the
--       last change
-- ARGV: 1 node, 2 number of this change, 3 1 where nothing of before holds, 4 for how many ms it is
--       kept, 5 channel, 6 message, 7 how many users are not there any more, then these, then the
--       others, each followed by what is to be kept of it

if ARGV[3] == '1' then
  redis.call('DEL', KEYS[2])
end
local at = 8
for _ = 1, tonumber(ARGV[7]) do
  redis.call('HDEL', KEYS[2], ARGV[at])
  at = at + 1
end
for user = at, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[user], ARGV[user + 1])
end
redis.call('HSET', KEYS[2], '', ARGV[2])
if redis.call('HLEN', KEYS[2]) == 1 then
  redis.call('DEL', KEYS[2])
  redis.call('SREM', KEYS[1], ARGV[1])
else
  redis.call('SADD', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
redis.call('PUBLISH', ARGV[5], ARGV[6])
