//! The catalogue of plugins, its audit, and node statuses. Each call is one statement, so it reads or changes the state of
//! a single moment. The keys of plugins are in another file.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::Postgres;
use super::connection::{Param, unreadable};
use super::rows::Number;
use crate::entries::{self, Edits, Key};
use crate::{CatalogueStore, REPORTS_KEPT, StoreError};
use switchboard_model::catalogue::{Audit, Catalogue, Change, NodeReport};
use switchboard_model::{Digest, Timestamp};

#[async_trait]
impl CatalogueStore for Postgres {
    async fn catalogue_revision(&self) -> Result<u64, StoreError> {
        let found = self.database.catalogue("SELECT revision FROM switchboard.plugin_catalogue", &[]).await?;
        Ok(number(&found, "revision")?.unwrap_or_default())
    }

    async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        let sql = "SELECT c.revision, e.part, e.document FROM switchboard.plugin_catalogue c \
                   LEFT JOIN switchboard.plugin_entry e ON true";
        let found = self.database.catalogue(sql, &[]).await?;
        let revision = number(&found, "revision")?.unwrap_or_default();
        let entry = |row: &Row| Ok((row.try_get("part")?, row.try_get("document")?));
        let entries: Vec<(Option<String>, Option<String>)> =
            found.iter().map(entry).collect::<Result<_, _>>().map_err(unreadable)?;
        entries::catalogue(revision, entries.into_iter().filter_map(|(part, document)| part.zip(document)))
    }

    async fn artefact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self
            .database
            .catalogue("SELECT bytes FROM switchboard.plugin_artefact WHERE digest = $1", &[digest])
            .await?;
        found.first().map(|row| row.try_get("bytes")).transpose().map_err(unreadable)
    }

    async fn change_catalogue(&self, at: u64, change: &Change) -> Result<Option<u64>, StoreError> {
        let audit: Vec<String> = change.audit.iter().map(entries::document).collect();
        if entries::is_audit_alone(change) {
            return number(&self.database.catalogue(TELL, &[&audit]).await?, "revision");
        }
        let (digest, bytes) = change.artefact.as_ref().map(|(digest, bytes)| (digest, bytes.as_slice())).unzip();
        let edits = Edits::of(change);
        let [added, put] = [&edits.added, &edits.put].map(|entries| {
            let keys = columns(entries.iter().map(|(key, _)| key));
            (keys, entries.iter().map(|(_, document)| document.as_str()).collect::<Vec<_>>())
        });
        let gone = columns(&edits.gone);
        let ((added_keys, added), (put_keys, put)) = (added, put);
        let params: &[Param<'_>] = &[
            &Number(at),
            &digest,
            &bytes,
            &added_keys[0],
            &added_keys[1],
            &added_keys[2],
            &added,
            &put_keys[0],
            &put_keys[1],
            &put_keys[2],
            &put,
            &gone[0],
            &gone[1],
            &gone[2],
            &audit,
        ];
        number(&self.database.catalogue(CHANGE, params).await?, "revision")
    }

    async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<Audit>, StoreError> {
        let sql = "SELECT id, document FROM switchboard.plugin_audit WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let found = self.database.catalogue(sql, &[&Number(before.unwrap_or(u64::MAX)), &i64::from(limit)]).await?;
        let line = |row: &Row| {
            let text: &str = row.try_get("document").map_err(unreadable)?;
            let id = row.try_get::<_, Number>("id").map_err(unreadable)?.0;
            Ok(Audit { id, ..entries::read(text)? })
        };
        found.iter().map(line).collect()
    }

    async fn report_node(&self, report: &NodeReport) -> Result<(), StoreError> {
        let NodeReport { node, revision, error, secret, at } = report;
        let forgotten = at.minus(REPORTS_KEPT);
        self.database.catalogue(REPORT, &[node, &Number(*revision), error, at, &forgotten, secret]).await.map(drop)
    }

    async fn nodes(&self, since: Timestamp) -> Result<Vec<NodeReport>, StoreError> {
        let sql = "SELECT node, revision, error, secret, at FROM switchboard.plugin_node WHERE at >= $1 ORDER BY node";
        let found = self.database.catalogue(sql, &[&since]).await?;
        let report = |row: &Row| {
            Ok(NodeReport {
                node: row.try_get("node")?,
                revision: row.try_get::<_, Number>("revision")?.0,
                error: row.try_get("error")?,
                secret: row.try_get("secret")?,
                at: row.try_get("at")?,
            })
        };
        found.iter().map(report).collect::<Result<_, _>>().map_err(unreadable)
    }
}

/// The first part locks the catalogue's row if it still has the revision: of two concurrent changes, the second waits for
/// the first and then finds a different revision. The rest is done only if that part found a row.
const CHANGE: &str = "
WITH turn AS (
    UPDATE switchboard.plugin_catalogue SET revision = revision + 1 WHERE revision = $1 RETURNING revision
), kept AS (
    INSERT INTO switchboard.plugin_artefact (digest, bytes)
    SELECT $2::text, $3::bytea FROM turn WHERE $2 IS NOT NULL
    ON CONFLICT (digest) DO NOTHING
), added AS (
    INSERT INTO switchboard.plugin_entry (part, scope, name, document)
    SELECT a.* FROM turn, unnest($4::text[], $5::text[], $6::text[], $7::text[]) AS a (part, scope, name, document)
), put AS (
    INSERT INTO switchboard.plugin_entry (part, scope, name, document)
    SELECT p.* FROM turn, unnest($8::text[], $9::text[], $10::text[], $11::text[]) AS p (part, scope, name, document)
    ON CONFLICT (part, scope, name) DO UPDATE SET document = excluded.document
), gone AS (
    DELETE FROM switchboard.plugin_entry e
    USING turn, unnest($12::text[], $13::text[], $14::text[]) AS g (part, scope, name)
    WHERE e.part = g.part AND e.scope = g.scope AND e.name = g.name
), told AS (
    INSERT INTO switchboard.plugin_audit (document)
    SELECT t.document FROM turn, unnest($15::text[]) WITH ORDINALITY AS t (document, place) ORDER BY t.place
)
SELECT revision FROM turn";

const TELL: &str = "
WITH told AS (
    INSERT INTO switchboard.plugin_audit (document)
    SELECT t.document FROM unnest($1::text[]) WITH ORDINALITY AS t (document, place) ORDER BY t.place
)
SELECT revision FROM switchboard.plugin_catalogue";

/// The columns of some keys: parts, scopes and names.
fn columns<'e>(keys: impl IntoIterator<Item = &'e Key>) -> [Vec<&'e str>; 3] {
    let mut columns = [const { Vec::new() }; 3];
    for key in keys {
        columns[0].push(key.part);
        columns[1].push(key.scope.as_str());
        columns[2].push(key.name.as_str());
    }
    columns
}

const REPORT: &str = "
WITH forgotten AS (
    DELETE FROM switchboard.plugin_node WHERE at < $5 AND node <> $1
)
INSERT INTO switchboard.plugin_node (node, revision, error, at, secret) VALUES ($1, $2, $3, $4, $6)
ON CONFLICT (node) DO UPDATE SET revision = excluded.revision, error = excluded.error, at = excluded.at,
    secret = excluded.secret";

/// A column of the first row, if there is a row.
fn number(rows: &[Row], column: &str) -> Result<Option<u64>, StoreError> {
    let found = rows.first().map(|row| row.try_get::<_, Number>(column)).transpose().map_err(unreadable)?;
    Ok(found.map(|number| number.0))
}
