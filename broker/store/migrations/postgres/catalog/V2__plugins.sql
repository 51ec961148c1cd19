-- What operators have decided about plugins. The broker reads all of it at once and the database has no question to ask
-- about it, so an entry is a key and a JSON document.

-- One row. Its number grows with each change, and its lock lets one change through at a time.
CREATE TABLE plugin_catalogue (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);

INSERT INTO plugin_catalogue (revision) VALUES (0);

CREATE TABLE plugin_entry (
    -- 'version', 'generation', 'route', 'terms', 'policy' or 'consent'.
    part text COLLATE "C" NOT NULL,
    -- A tenant's slug, or nothing for all tenants and for what belongs to none.
    scope text COLLATE "C" NOT NULL,
    -- Which of that part and scope.
    name text COLLATE "C" NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (part, scope, name)
);

-- Components by the SHA-256 of their bytes.
CREATE TABLE plugin_artefact (
    digest text COLLATE "C" PRIMARY KEY,
    bytes bytea NOT NULL
);

-- Machine code hardly shrinks, and to try it takes longer than to write it.
ALTER TABLE plugin_artefact ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE plugin_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document text NOT NULL
);

-- Lines of the audit are added, and neither changed nor taken out.
CREATE FUNCTION plugin_audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is only added to';
END
$$;

CREATE TRIGGER plugin_audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON plugin_audit
    FOR EACH STATEMENT EXECUTE FUNCTION plugin_audit_stays();

-- How far each node has come, in its own last words.
CREATE TABLE plugin_node (
    node text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    error text,
    at timestamptz NOT NULL
) WITH (fillfactor = 50); -- Rewritten again and again.

CREATE INDEX plugin_node_at ON plugin_node (at);
