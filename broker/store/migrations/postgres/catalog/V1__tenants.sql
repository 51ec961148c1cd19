-- The catalogue: which tenants there are. It stands in the schema "switchboard"; the search path says so while this runs.

CREATE TABLE tenant (
    -- Names the tenant's schema, "tenant_<slug>".
    slug text COLLATE "C" PRIMARY KEY,
    -- What tokens carry as tenant_id, when the operator gave one.
    external_id text UNIQUE,
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL
);
