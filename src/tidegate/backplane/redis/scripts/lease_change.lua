-- Take a connection of a node out of some counts, and put it into others, whatever their limits.
--
-- KEYS: 1 the counts of this node
-- ARGV: 1 how many names come next to be taken out, then these, then those to be put in
-- Returns 0, or -1 when the server knows nothing of this node: then nothing is done.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return -1
end
local out = tonumber(ARGV[1])
for i = 2, 1 + out do
  if redis.call('HINCRBY', KEYS[1], ARGV[i], -1) <= 0 then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
for i = 2 + out, #ARGV do
  redis.call('HINCRBY', KEYS[1], ARGV[i], 1)
end
return 0
