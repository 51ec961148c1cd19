-- Members who are out, and tokens that have ended before their time.

ALTER TABLE member
    -- A deleted member keeps its row, under another name, because its messages refer to it.
    ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled', 'deleted')),
    -- Tokens issued before this are refused; null when all are good.
    ADD COLUMN tokens_since timestamptz,
    -- When the name was given. A token issued before it does not change the name back.
    ADD COLUMN named_at timestamptz;

ALTER TABLE spent_refresh
    -- The jti of the refresh token that was issued for it, and when: the same client may ask again for a short time.
    ADD COLUMN successor text COLLATE "C",
    ADD COLUMN spent_at timestamptz;

-- Single tokens that were ended, until they would have ended anyway.
CREATE TABLE revoked_token (
    jti text COLLATE "C" PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

CREATE INDEX revoked_token_expiry ON revoked_token (expires_at);
