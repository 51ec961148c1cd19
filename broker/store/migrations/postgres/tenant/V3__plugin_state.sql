-- What plugins keep in the tenant: each its own keys, which no other plugin reads.

-- One row a plugin. Its lock makes those who write take turns, and lets it count what is there.
CREATE TABLE plugin_usage (
    plugin text COLLATE "C" PRIMARY KEY,
    -- How many keys there are, and the bytes of keys and values, with those that have ended and were not swept yet.
    keys bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    -- The last version that was given to a key. None is given twice, so a key that was removed and put again shows it.
    version bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50); -- Rewritten at each write, as chat_channel is.

CREATE TABLE plugin_key (
    plugin text COLLATE "C" NOT NULL,
    -- UTF-8, as bytes: any text can be a key, and keys are sorted by their bytes.
    key bytea NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (plugin, key)
);

-- What is to be swept next.
CREATE INDEX plugin_key_expiry ON plugin_key (plugin, expires_at) WHERE expires_at IS NOT NULL;

-- The idempotency keys of requests that changed keys or messages and stored no message to keep them with.
CREATE TABLE request_without_message (
    sender_id text COLLATE "C" NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    request_digest bytea NOT NULL,
    channel_id uuid NOT NULL,
    -- The channel's last number then.
    seq bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (sender_id, client_id)
);
