-- Whose tokens have ended, and the secret of each node.

ALTER TABLE tenant
    -- Tokens issued before this are refused; null when all are good.
    ADD COLUMN tokens_since timestamptz,
    -- Grows whenever somebody of the tenant may have lost a right. Nodes compare it with what they saw last, once a second,
    -- and look at their open sockets only when it differs.
    ADD COLUMN revision bigint NOT NULL DEFAULT 0;

-- A fingerprint of the secret that the node signs with: nodes with different secrets refuse each other's tokens.
ALTER TABLE plugin_node ADD COLUMN secret text;
