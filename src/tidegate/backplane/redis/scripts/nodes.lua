-- Read the records of all nodes that were heard lately.
--
-- KEYS: 1 records by node, 2 nodes by the time at which they were heard last, in ms
-- ARGV: 1 after how many ms of silence a node is forgotten
-- Returns for each node its record, and how many ms ago it was heard.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local heard = redis.call('ZRANGEBYSCORE', KEYS[2], now - ARGV[1], '+inf', 'WITHSCORES')
local found = {}
for at = 1, #heard, 2 do
  local record = redis.call('HGET', KEYS[1], heard[at])
  if record then
    found[#found + 1] = record
    found[#found + 1] = string.format('%d', math.max(0, now - heard[at + 1]))
  end
end
return found
