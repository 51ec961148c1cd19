-- Notes a session. True: the member was not present before.
-- ARGV: lease in ms, user id, session, username.
local user = ARGV[2] .. '\0'
local session = user .. ARGV[3] .. '\0'
local known = redis.call('ZRANGEBYLEX', KEYS[1], '[' .. user, '(' .. ARGV[2] .. '\1')
for _, entry in ipairs(known) do
    -- The same session under a username that has changed since is not another session.
    if string.sub(entry, 1, #session) == session then
        redis.call('ZREM', KEYS[1], entry)
        redis.call('ZREM', KEYS[2], entry)
    end
end

local entry = session .. ARGV[4]
redis.call('ZADD', KEYS[1], 0, entry)
redis.call('ZADD', KEYS[2], now + ARGV[1], entry)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return #known == 0
