-- Read which users a room has, by the nodes that they are on.
--
-- KEYS: 1 the nodes that have users there
-- ARGV: 1 what the names of the keys with a node's users begin with, then nodes that are gone: what
--       they had is deleted
-- Returns for each node: its name, and its users as they were written, under '' the number of its
-- last change.

for gone = 2, #ARGV do
  redis.call('DEL', ARGV[1] .. ARGV[gone])
  redis.call('SREM', KEYS[1], ARGV[gone])
end
local found = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local users = redis.call('HGETALL', ARGV[1] .. node)
  if #users > 0 then
    found[#found + 1] = {node, users}
  else
    redis.call('SREM', KEYS[1], node)
  end
end
return found
