-- Say that a node is alive.
--
-- KEYS: 1 names of the fleet's nodes, 2 the counts of this node
-- ARGV: 1 how the keys of counts begin, 2 name of the node, 3 time to live in ms
-- Returns how many connections the fleet has and the names of its nodes, or nothing when the server
-- knows nothing of this node.

if redis.call('PEXPIRE', KEYS[2], ARGV[3]) == 0 then
  return {}
end
redis.call('SADD', KEYS[1], ARGV[2])
local answer = {0}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local counts = redis.call('HMGET', ARGV[1] .. node, 'run', 'c')
  if counts[1] then
    answer[1] = answer[1] + (tonumber(counts[2]) or 0)
    answer[#answer + 1] = node
  end
end
return answer
