-- Write down what a node holds: the node is always right about that.
--
-- KEYS: 1 state of the fleet, 2 names of its nodes, 3 the counts of this node
-- ARGV: 1 run of the server, 2 name of the node, 3 time to live in ms, 4 run under which the node
--       has claimed before, empty for never, 5 how long the others have at least, in ms, to claim
--       after a start of the server, 6 how many names of nodes come next, then these, then pairs:
--       a count's name, and the count
--
-- After another run of the server nobody gets capacity until all nodes that are known have claimed,
-- or their time to live has passed. A server that knows nothing is new to the fleet, or has lost
-- its data: a node that has claimed before tells one from the other.

local run, before = ARGV[1], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'run', 'fresh')
local close
if state[1] ~= run then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'run', run)
  close = state[1] or before ~= ''
  if not close then
    redis.call('HSET', KEYS[1], 'fresh', 1)
  end
else
  close = state[2] and before ~= '' and before ~= run
end
if close then
  redis.call('HDEL', KEYS[1], 'fresh')
  redis.call('HSET', KEYS[1], 'opens', string.format('%d', now + ARGV[3]),
    'early', string.format('%d', now + ARGV[5]))
end

local known = tonumber(ARGV[6])
redis.call('SADD', KEYS[2], ARGV[2])
for i = 7, 6 + known do
  redis.call('SADD', KEYS[2], ARGV[i])
end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[3], 'run', run)
local first = 7 + known
while first <= #ARGV do
  local last = math.min(first + 999, #ARGV)
  redis.call('HSET', KEYS[3], unpack(ARGV, first, last))
  first = last + 1
end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 0
