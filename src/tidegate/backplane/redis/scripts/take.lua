-- Take a session of a node, so that nobody else can.
--
-- KEYS: 1 the sessions of the node
-- ARGV: 1 the id
-- Returns what the node has written of it.

local kept = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return kept
