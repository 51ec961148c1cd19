-- What every script of this folder begins with. KEYS: entries, leases.
-- An entry is "<user id>\0<session>\0<username>"; no part can contain a control character.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- An entry ends only once, so a call that finds many to drop does what was put off until then, and no more.
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
    redis.call('ZREM', KEYS[1], entry)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)

