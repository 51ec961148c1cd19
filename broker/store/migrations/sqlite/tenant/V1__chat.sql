-- Everything of one tenant, in its own file. Times are milliseconds since 1970, UUIDs are their 16 bytes.

CREATE TABLE member (
    id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    -- An argon2 hash in PHC form; null for a member who can only use tokens.
    password_hash TEXT,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE chat_channel (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    -- Names one unbroken numbering; it changes when a file is restored from a backup.
    epoch TEXT NOT NULL,
    -- The number of the newest message.
    seq INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE channel_member (
    channel_id BLOB NOT NULL REFERENCES chat_channel,
    user_id TEXT NOT NULL REFERENCES member,
    role TEXT NOT NULL CHECK (role IN ('owner', 'member')),
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (channel_id, user_id)
) STRICT, WITHOUT ROWID;

-- "The channels I am in", in their order.
CREATE INDEX channel_member_user ON channel_member (user_id, channel_id);

CREATE TABLE chat_message (
    id BLOB NOT NULL PRIMARY KEY,
    channel_id BLOB NOT NULL REFERENCES chat_channel,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    sender_id TEXT NOT NULL REFERENCES member,
    -- JSON as text: it is handed on as it came, and the database has no question to ask about it.
    content TEXT NOT NULL,
    -- Checked when it is written; messages are never taken out, so no constraint has to guard it later.
    reply_to BLOB,
    attachments TEXT NOT NULL,
    -- The sender's idempotency key and the digest of what was sent under it, on the first message of a commit.
    client_id TEXT,
    request_digest BLOB,
    created_at INTEGER NOT NULL,
    edited_at INTEGER,
    deleted_at INTEGER,
    UNIQUE (channel_id, seq)
) STRICT; -- With its rowid: a message may be 64 KiB, too wide to be kept in the tree of its key.

CREATE UNIQUE INDEX chat_message_request ON chat_message (sender_id, client_id) WHERE client_id IS NOT NULL;

-- One row a member and channel: everything up to seq has been read. A member has read a message when this is at or
-- past it, so that reading costs a row, not a row for each message. It outlives leaving the channel.
CREATE TABLE message_read_status (
    channel_id BLOB NOT NULL REFERENCES chat_channel,
    user_id TEXT NOT NULL REFERENCES member,
    message_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    read_at INTEGER NOT NULL,
    PRIMARY KEY (channel_id, user_id)
) STRICT, WITHOUT ROWID;

-- Refresh tokens that were used, until they would have ended anyway.
CREATE TABLE spent_refresh (
    jti TEXT NOT NULL PRIMARY KEY,
    family TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX spent_refresh_expiry ON spent_refresh (expires_at);

-- Families of refresh tokens of which one was used twice.
CREATE TABLE revoked_family (
    family TEXT NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX revoked_family_expiry ON revoked_family (expires_at);
