-- The catalogue: which tenants there are. Times are milliseconds since 1970.

CREATE TABLE tenant (
    -- Names the tenant's file, tenants/<slug>.db.
    slug TEXT NOT NULL PRIMARY KEY,
    -- What tokens carry as tenant_id, when the operator gave one.
    external_id TEXT UNIQUE,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
