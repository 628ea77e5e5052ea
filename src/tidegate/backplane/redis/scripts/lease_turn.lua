-- Do what happened to the connections of a node in one turn: change its counts first, whatever their
-- limits, and then count each new connection everywhere, or nowhere.
--
-- KEYS: 1 state of the fleet, 2 names of its nodes, 3 the counts of this node
-- ARGV: 1 run of the server, 2 how the keys of counts begin, 3 how many changes come next, then
--       these: a count's name, and by how much; then for each new connection: in how many counts it
--       is, then these: a count's name, and its limit, -1 for none
-- Returns for each new connection 0 when it was counted, or the number of the first limit that is
-- reached, from 1. Or -1 alone when the server knows nothing of this node: then nothing is done. Or
-- -2 alone when not all nodes are known again yet: then the changes are done.

local run = ARGV[1]
if redis.call('EXISTS', KEYS[3]) == 0 then
  return -1
end
local state = redis.call('HMGET', KEYS[1], 'run', 'opens', 'early')
if state[1] ~= run then
  return -1
end

local first = 4 + 2 * ARGV[3]
for i = 4, first - 1, 2 do
  if redis.call('HINCRBY', KEYS[3], ARGV[i], ARGV[i + 1]) <= 0 then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
end
if first > #ARGV then
  return {}
end

local nodes = redis.call('SMEMBERS', KEYS[2])
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

local sums, more, fields = {}, {}, {'run'}
local at = first
while at <= #ARGV do
  local last = at + 2 * ARGV[at]
  for i = at + 1, last, 2 do
    local name = ARGV[i]
    if not sums[name] then
      sums[name], more[name] = 0, 0
      fields[#fields + 1] = name
    end
  end
  at = last + 1
end
for _, node in ipairs(nodes) do
  local counts = redis.call('HMGET', ARGV[2] .. node, unpack(fields))
  if counts[1] then
    for i = 2, #fields do
      sums[fields[i]] = sums[fields[i]] + (tonumber(counts[i]) or 0)
    end
  else
    redis.call('SREM', KEYS[2], node)
  end
end

local answers = {}
at = first
while at <= #ARGV do
  local last = at + 2 * ARGV[at]
  local full = 0
  for i = at + 1, last, 2 do
    local limit = tonumber(ARGV[i + 1])
    if limit >= 0 and sums[ARGV[i]] >= limit then
      full = (i - at + 1) / 2
      break
    end
  end
  if full == 0 then
    for i = at + 1, last, 2 do
      local name = ARGV[i]
      sums[name], more[name] = sums[name] + 1, more[name] + 1
    end
  end
  answers[#answers + 1] = full
  at = last + 1
end
for i = 2, #fields do
  if more[fields[i]] > 0 then
    redis.call('HINCRBY', KEYS[3], fields[i], more[fields[i]])
  end
end
return answers
