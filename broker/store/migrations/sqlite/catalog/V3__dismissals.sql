-- Whose tokens have ended, and the secret of each node.

-- Tokens issued before this are refused; null when all are good.
ALTER TABLE tenant ADD COLUMN tokens_since INTEGER;
-- Grows whenever somebody of the tenant may have lost a right. The broker compares it with what it saw last, once a second,
-- and looks at its open sockets only when it differs.
ALTER TABLE tenant ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

-- A fingerprint of the secret that the node signs with.
ALTER TABLE plugin_node ADD COLUMN secret TEXT;
