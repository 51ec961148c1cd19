-- What operators have decided about plugins. The broker reads all of it at once and the database has no question to ask
-- about it, so an entry is a key and a JSON document.

-- One row. Its number grows with each change.
CREATE TABLE plugin_catalogue (
    only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO plugin_catalogue (revision) VALUES (0);

CREATE TABLE plugin_entry (
    -- 'version', 'generation', 'route', 'terms', 'policy' or 'consent'.
    part TEXT NOT NULL,
    -- A tenant's slug, or nothing for all tenants and for what belongs to none.
    scope TEXT NOT NULL,
    -- Which of that part and scope.
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (part, scope, name)
) STRICT, WITHOUT ROWID;

-- Components by the SHA-256 of their bytes.
CREATE TABLE plugin_artefact (
    digest TEXT NOT NULL PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT; -- With its rowid: megabytes do not belong in the tree of their key.

CREATE TABLE plugin_audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document TEXT NOT NULL
) STRICT;

-- Lines of the audit are added, and neither changed nor taken out.
CREATE TRIGGER plugin_audit_is_not_changed BEFORE UPDATE ON plugin_audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is only added to');
END;

CREATE TRIGGER plugin_audit_is_not_shortened BEFORE DELETE ON plugin_audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is only added to');
END;

-- How far each node has come, in its own last words.
CREATE TABLE plugin_node (
    node TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    error TEXT,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX plugin_node_at ON plugin_node (at);
