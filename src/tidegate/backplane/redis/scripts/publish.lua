-- Give a message its offset, keep it, and publish it.
--
-- KEYS: 1 what is known of the room's stream, 2 the stream
-- ARGV: 1 channel, 2 message, 3 how many messages to keep, 4 for how many ms, 5 run of the server,
--       6 an epoch that nobody has used, 7 for how many ms an idle room's offset is remembered
-- Returns the epoch, the offset, and how many nodes got it.
--
-- The epoch is new when the server is not the one that kept the stream before: after a restart or a
-- failover, some of what was acknowledged may be lost, and its offsets would be given again.

local known = redis.call('HMGET', KEYS[1], 'epoch', 'run')
local epoch = known[1]
if not epoch or known[2] ~= ARGV[5] then
  epoch = ARGV[6]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', ARGV[5])
end
local offset = redis.call('HINCRBY', KEYS[1], 'offset', 1)
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[3], offset .. '-0', 't', string.format('%d', ms), 'm', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
local position = epoch .. ' ' .. string.format('%d', offset)
return {epoch, offset, redis.call('PUBLISH', ARGV[1], position .. '\n' .. ARGV[2])}
