-- Keep the record of a node, and forget nodes that were silent for too long.
--
-- KEYS: 1 records by node, 2 nodes by the time at which they were heard last, in ms
-- ARGV: 1 the node, 2 its record, 3 after how many ms of silence a node is forgotten

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local silent = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3], 'LIMIT', 0, 1000)
if #silent > 0 then
  redis.call('HDEL', KEYS[1], unpack(silent))
  redis.call('ZREM', KEYS[2], unpack(silent))
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%d', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3] * 2)
redis.call('PEXPIRE', KEYS[2], ARGV[3] * 2)
return 1
