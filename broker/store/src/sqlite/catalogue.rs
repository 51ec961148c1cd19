//! The catalogue of plugins, its audit, and node statuses. Each call is a transaction. The keys of plugins are in another
//! file.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Sqlite;
use super::rows::Number;
use crate::entries::{self, Edits};
use crate::{CatalogueStore, REPORTS_KEPT, StoreError};
use switchboard_model::catalogue::{Audit, Catalogue, Change, NodeReport};
use switchboard_model::{Digest, Timestamp};

#[async_trait]
impl CatalogueStore for Sqlite {
    async fn catalogue_revision(&self) -> Result<u64, StoreError> {
        self.catalogue.read(|db| revision(db)).await
    }

    async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        let (revision, entries) = self.catalogue.read(|db| entries(db)).await?;
        entries::catalogue(revision, entries)
    }

    async fn artefact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let digest = digest.clone();
        self.catalogue
            .read(move |db| {
                db.prepare_cached("SELECT bytes FROM plugin_artefact WHERE digest = ?1")?
                    .query_row([digest], |row| row.get(0))
                    .optional()
            })
            .await
    }

    /// Changes the entries if the catalogue is still at a revision.
    async fn change_catalogue(&self, at: u64, change: &Change) -> Result<Option<u64>, StoreError> {
        let audit: Vec<String> = change.audit.iter().map(entries::document).collect();
        if entries::is_audit_alone(change) {
            let written = move |db: &rusqlite::Transaction<'_>| write_audit(db, &audit).and_then(|()| revision(db));
            return self.catalogue.write(written).await.map(Some);
        }
        let (artefact, edits) = (change.artefact.clone(), Edits::of(change));
        self.catalogue
            .write(move |db| {
                let raised =
                    "UPDATE plugin_catalogue SET revision = revision + 1 WHERE revision = ?1 RETURNING revision";
                let raised =
                    db.prepare_cached(raised)?.query_row([Number(at)], |row| row.get::<_, Number>(0)).optional()?;
                let Some(Number(revision)) = raised else { return Ok(None) };
                if let Some((digest, bytes)) = artefact {
                    let keep = "INSERT INTO plugin_artefact (digest, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                    db.prepare_cached(keep)?.execute(params![digest, bytes])?;
                }
                let mut add = db
                    .prepare_cached("INSERT INTO plugin_entry (part, scope, name, document) VALUES (?1, ?2, ?3, ?4)")?;
                for (key, document) in &edits.added {
                    add.execute(params![key.part, key.scope, key.name, document])?;
                }
                let mut put = db.prepare_cached(
                    "INSERT INTO plugin_entry (part, scope, name, document) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET document = excluded.document",
                )?;
                for (key, document) in &edits.put {
                    put.execute(params![key.part, key.scope, key.name, document])?;
                }
                let mut take =
                    db.prepare_cached("DELETE FROM plugin_entry WHERE part = ?1 AND scope = ?2 AND name = ?3")?;
                for key in &edits.gone {
                    take.execute(params![key.part, key.scope, key.name])?;
                }
                write_audit(db, &audit)?;
                Ok(Some(revision))
            })
            .await
    }

    async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<Audit>, StoreError> {
        let lines: Vec<(u64, String)> = self
            .catalogue
            .read(move |db| {
                db.prepare_cached("SELECT id, document FROM plugin_audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?
                    .query_map(params![Number(before.unwrap_or(u64::MAX)), limit], |row| {
                        Ok((row.get::<_, Number>(0)?.0, row.get(1)?))
                    })?
                    .collect()
            })
            .await?;
        lines.into_iter().map(|(id, text)| Ok(Audit { id, ..entries::read(&text)? })).collect()
    }

    async fn report_node(&self, report: &NodeReport) -> Result<(), StoreError> {
        let report = report.clone();
        self.catalogue
            .write(move |db| {
                let NodeReport { node, revision, error, secret, at } = report;
                db.prepare_cached("DELETE FROM plugin_node WHERE at < ?1 AND node <> ?2")?
                    .execute(params![at.minus(REPORTS_KEPT), node])?;
                let put = "INSERT INTO plugin_node (node, revision, error, secret, at) VALUES (?1, ?2, ?3, ?4, ?5) \
                       ON CONFLICT DO UPDATE SET revision = excluded.revision, error = excluded.error,
                           secret = excluded.secret, at = excluded.at";
                db.prepare_cached(put)?.execute(params![node, Number(revision), error, secret, at]).map(drop)
            })
            .await
    }

    async fn nodes(&self, since: Timestamp) -> Result<Vec<NodeReport>, StoreError> {
        self.catalogue
            .read(move |db| {
                let report = |row: &Row<'_>| {
                    Ok(NodeReport {
                        node: row.get("node")?,
                        revision: row.get::<_, Number>("revision")?.0,
                        error: row.get("error")?,
                        secret: row.get("secret")?,
                        at: row.get("at")?,
                    })
                };
                db.prepare_cached(
                    "SELECT node, revision, error, secret, at FROM plugin_node WHERE at >= ?1 ORDER BY node",
                )?
                .query_map([since], report)?
                .collect()
            })
            .await
    }
}

fn revision(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT revision FROM plugin_catalogue")?
        .query_row([], |row| row.get::<_, Number>(0))
        .map(|revision| revision.0)
}

/// The revision, and each entry's part and document.
fn entries(db: &Connection) -> rusqlite::Result<(u64, Vec<(String, String)>)> {
    let mut select = db.prepare_cached("SELECT part, document FROM plugin_entry")?;
    let entries = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    Ok((revision(db)?, entries))
}

/// Adds lines to the audit.
fn write_audit(db: &Connection, audit: &[String]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT INTO plugin_audit (document) VALUES (?1)")?;
    audit.iter().try_for_each(|document| insert.execute([document]).map(drop))
}
