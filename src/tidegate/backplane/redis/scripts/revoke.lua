-- Keep revocations, and forget those whose time is over.
--
-- KEYS: 1 users by the time before which their tokens are revoked, 2 users by the time at which
--       their revocation may be forgotten
-- ARGV: 1 now, then for each user: the user and these two times; all in Unix seconds
-- Returns how many were not known, or for an earlier time only.

local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, 1000)
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.call('ZREM', KEYS[2], unpack(gone))
end
local changed = 0
for at = 2, #ARGV, 3 do
  changed = changed + redis.call('ZADD', KEYS[1], 'GT', 'CH', ARGV[at + 1], ARGV[at])
  redis.call('ZADD', KEYS[2], 'GT', ARGV[at + 2], ARGV[at])
end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
if last[2] then
  local ms = string.format('%d', math.ceil(tonumber(last[2]) * 1000))
  redis.call('PEXPIREAT', KEYS[1], ms)
  redis.call('PEXPIREAT', KEYS[2], ms)
end
return changed
