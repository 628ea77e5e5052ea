-- Count a connection of a node everywhere, or nowhere.
--
-- KEYS: 1 state of the fleet, 2 names of its nodes, 3 the counts of this node
-- ARGV: 1 run of the server, 2 how the keys of counts begin, then pairs: a count's name, and its
--       limit, -1 for none
-- Returns 0 when it was counted; the number of the first limit that is reached, from 1;
-- or -1 when the server knows nothing of this node; or -2 when not all nodes are known again yet.

local run = ARGV[1]
if redis.call('EXISTS', KEYS[3]) == 0 then
  return -1
end
local nodes = redis.call('SMEMBERS', KEYS[2])
local state = redis.call('HMGET', KEYS[1], 'run', 'opens', 'early')
if state[1] ~= run then
  return -1
end
if state[2] then
  -- The server was started again, or is another one. A node that has not said what it holds may
  -- hold more than is known here. After its time to live it holds nothing.
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if now < tonumber(state[2]) then
    if now < tonumber(state[3]) then
      return -2
    end
    for _, node in ipairs(nodes) do
      if redis.call('HGET', ARGV[2] .. node, 'run') ~= run then
        return -2
      end
    end
  end
  redis.call('HDEL', KEYS[1], 'opens', 'early')
end

local fields = {'run'}
local sums = {}
for i = 3, #ARGV, 2 do
  fields[#fields + 1] = ARGV[i]
  sums[#sums + 1] = 0
end
for _, node in ipairs(nodes) do
  local counts = redis.call('HMGET', ARGV[2] .. node, unpack(fields))
  if counts[1] then
    for i = 1, #sums do
      sums[i] = sums[i] + (tonumber(counts[i + 1]) or 0)
    end
  else
    redis.call('SREM', KEYS[2], node)
  end
end
for i = 1, #sums do
  local limit = tonumber(ARGV[2 + i * 2])
  if limit >= 0 and sums[i] >= limit then
    return i
  end
end
for i = 1, #sums do
  redis.call('HINCRBY', KEYS[3], fields[i + 1], 1)
end
return 0
