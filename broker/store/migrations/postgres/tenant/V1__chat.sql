-- Everything of one tenant. It stands in the tenant's own schema; the search path says so while this runs.
-- Text that is compared or sorted is COLLATE "C": byte order is the same on every server, and the fastest.

CREATE TABLE member (
    id text COLLATE "C" PRIMARY KEY,
    username text COLLATE "C" NOT NULL UNIQUE,
    -- An argon2 hash in PHC form; null for a member who can only use tokens.
    password_hash text,
    created_at timestamptz NOT NULL
);

CREATE TABLE chat_channel (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    -- Names one unbroken numbering; it changes when a database is restored from a backup.
    epoch text NOT NULL,
    -- The number of the newest message. Its row is the lock that makes numbers gapless.
    seq bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL
) WITH (fillfactor = 50); -- Every message updates its channel's row; the room keeps those updates off the index.

CREATE TABLE channel_member (
    channel_id uuid NOT NULL REFERENCES chat_channel,
    user_id text COLLATE "C" NOT NULL REFERENCES member,
    role text NOT NULL CHECK (role IN ('owner', 'member')),
    joined_at timestamptz NOT NULL,
    PRIMARY KEY (channel_id, user_id)
);

-- "The channels I am in", in their order.
CREATE INDEX channel_member_user ON channel_member (user_id, channel_id);

CREATE TABLE chat_message (
    id uuid PRIMARY KEY,
    channel_id uuid NOT NULL REFERENCES chat_channel,
    seq bigint NOT NULL,
    kind text NOT NULL,
    sender_id text COLLATE "C" NOT NULL REFERENCES member,
    -- JSON as text: it is handed on as it came, and the database has no question to ask about it.
    content text NOT NULL,
    -- Checked when it is written; messages are never taken out, so no constraint has to guard it later.
    reply_to uuid,
    attachments text NOT NULL,
    -- The sender's idempotency key and the digest of what was sent under it, on the first message of a commit.
    client_id text COLLATE "C",
    request_digest bytea,
    created_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    UNIQUE (channel_id, seq)
);

CREATE UNIQUE INDEX chat_message_request ON chat_message (sender_id, client_id) WHERE client_id IS NOT NULL;

-- One row a member and channel: everything up to seq has been read. A member has read a message when this is at or
-- past it, so that reading costs a row, not a row for each message. It outlives leaving the channel.
CREATE TABLE message_read_status (
    channel_id uuid NOT NULL REFERENCES chat_channel,
    user_id text COLLATE "C" NOT NULL REFERENCES member,
    message_id uuid NOT NULL,
    seq bigint NOT NULL,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (channel_id, user_id)
) WITH (fillfactor = 70); -- Rewritten at each read mark, as chat_channel is.

-- Refresh tokens that were used, until they would have ended anyway.
CREATE TABLE spent_refresh (
    jti text COLLATE "C" PRIMARY KEY,
    family text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX spent_refresh_expiry ON spent_refresh (expires_at);

-- Families of refresh tokens of which one was used twice.
CREATE TABLE revoked_family (
    family text COLLATE "C" PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

CREATE INDEX revoked_family_expiry ON revoked_family (expires_at);
