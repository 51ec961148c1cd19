-- The members present by user id, each as {user id, username}.
-- ARGV: how many at most, and the user id after which to begin; empty for the first.
local members = {}
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2] .. '\1'
while #members < tonumber(ARGV[1]) do
    local entry = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, 1)[1]
    if not entry then
        break
    end
    local after_user = string.find(entry, '\0', 1, true)
    local after_session = string.find(entry, '\0', after_user + 1, true)
    local user = string.sub(entry, 1, after_user - 1)
    members[#members + 1] = { user, string.sub(entry, after_session + 1) }
    -- However many sessions the member has, the next entry after all of them is another member's.
    from = '(' .. user .. '\1'
end
return members
