-- What plugins keep in the tenant: each its own keys, which no other plugin reads.

-- One row a plugin, which counts what is there.
CREATE TABLE plugin_usage (
    plugin TEXT NOT NULL PRIMARY KEY,
    -- How many keys there are, and the bytes of keys and values, with those that have ended and were not swept yet.
    keys INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- The last version that was given to a key. None is given twice, so a key that was removed and put again shows it.
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE plugin_key (
    plugin TEXT NOT NULL,
    -- UTF-8, as bytes: any text can be a key, and keys are sorted by their bytes.
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (plugin, key)
) STRICT; -- With its rowid: a value may be 64 KiB, too wide to be kept in the tree of its key.

-- What is to be swept next.
CREATE INDEX plugin_key_expiry ON plugin_key (plugin, expires_at) WHERE expires_at IS NOT NULL;

-- The idempotency keys of requests that changed keys or messages and stored no message to keep them with.
CREATE TABLE request_without_message (
    sender_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    channel_id BLOB NOT NULL,
    -- The channel's last number then.
    seq INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (sender_id, client_id)
) STRICT, WITHOUT ROWID;
