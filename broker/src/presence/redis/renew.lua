-- Puts off the end of sessions, and puts back those that are lost.
-- ARGV: lease in ms, then user id, session, username of each.
for i = 2, #ARGV, 3 do
    local entry = ARGV[i] .. '\0' .. ARGV[i + 1] .. '\0' .. ARGV[i + 2]
    redis.call('ZADD', KEYS[1], 0, entry)
    redis.call('ZADD', KEYS[2], now + ARGV[1], entry)
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return true
