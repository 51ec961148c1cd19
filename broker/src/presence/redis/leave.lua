-- Forgets a session. True: the member is not present any more.
-- ARGV: user id, session.
local user = ARGV[1] .. '\0'
local session = user .. ARGV[2] .. '\0'
local known = redis.call('ZRANGEBYLEX', KEYS[1], '[' .. user, '(' .. ARGV[1] .. '\1')
local removed = 0
for _, entry in ipairs(known) do
    if string.sub(entry, 1, #session) == session then
        redis.call('ZREM', KEYS[1], entry)
        redis.call('ZREM', KEYS[2], entry)
        removed = removed + 1
    end
end
return removed > 0 and removed == #known
