-- Say what the fleet has in some counts.
--
-- KEYS: 1 names of the fleet's nodes
-- ARGV: 1 how the keys of counts begin, then names of counts
-- Returns the sum over all nodes for each name.

local sums = {}
for i = 2, #ARGV do
  sums[i - 1] = 0
end
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local counts = redis.call('HMGET', ARGV[1] .. node, unpack(ARGV, 2))
  for i = 1, #sums do
    sums[i] = sums[i] + (tonumber(counts[i]) or 0)
  end
end
return sums
