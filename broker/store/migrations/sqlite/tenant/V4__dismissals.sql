-- Members who are out, and tokens that have ended before their time.

-- A deleted member keeps its row, under another name, because its messages refer to it.
ALTER TABLE member ADD COLUMN state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled', 'deleted'));
-- Tokens issued before this are refused; null when all are good.
ALTER TABLE member ADD COLUMN tokens_since INTEGER;
-- When the name was given. A token issued before it does not change the name back.
ALTER TABLE member ADD COLUMN named_at INTEGER;

-- The jti of the refresh token that was issued for it, and when: the same client may ask again for a short time.
ALTER TABLE spent_refresh ADD COLUMN successor TEXT;
ALTER TABLE spent_refresh ADD COLUMN spent_at INTEGER;

-- Single tokens that were ended, until they would have ended anyway.
CREATE TABLE revoked_token (
    jti TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX revoked_token_expiry ON revoked_token (expires_at);
