-- Read a part of a room's stream.
--
-- KEYS: 1 what is known of the room's stream, 2 the stream
-- ARGV: 1 run of the server, 2 an epoch that nobody has used, 3 how long an idle room's offset is
--       remembered in ms, 4 the offset after which to read or -1 for the last messages, 5 how many
-- Returns the epoch, the last offset, the time in ms, and the messages with their offsets and times.

local known = redis.call('HMGET', KEYS[1], 'epoch', 'run', 'offset')
local epoch = known[1]
if not epoch or known[2] ~= ARGV[1] then
  epoch = ARGV[2]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local offset = tonumber(known[3] or '0')
local found = {}
local count = tonumber(ARGV[5])
if count > 0 then
  if ARGV[4] == '-1' then
    found = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', count)
  elseif tonumber(ARGV[4]) < offset then
    found = redis.call('XRANGE', KEYS[2], '(' .. ARGV[4] .. '-0', '+', 'COUNT', count)
  end
end
local now = redis.call('TIME')
return {epoch, offset, now[1] * 1000 + math.floor(now[2] / 1000), found}
