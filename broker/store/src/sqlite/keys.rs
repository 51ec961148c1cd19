//! The keys of plugins, and changes to existing messages, in the caller's transaction. What is allowed was decided
//! before.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::Sqlite;
use super::rows::Number;
use crate::changes::{Asked, Changes, Held, SWEPT, Usage, lone_request, span};
use crate::{Commit, KeyStore, StoreError};
use switchboard_model::{KvEntry, PluginName, TenantSlug, Timestamp};

#[async_trait]
impl KeyStore for Sqlite {
    async fn kv_get(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KvEntry>, StoreError> {
        let (plugin, key) = (plugin.clone(), key.to_owned());
        self.read(tenant, move |db| {
            let sql = "SELECT key, value, version FROM plugin_key \
                       WHERE plugin = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3)";
            db.prepare_cached(sql)?.query_row(params![plugin, key.as_bytes(), now], entry).optional()
        })
        .await
    }

    async fn kv_list(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<KvEntry>, StoreError> {
        let (plugin, prefix, after) = (plugin.clone(), prefix.to_owned(), after.map(str::to_owned));
        self.read(tenant, move |db| {
            let sql = "SELECT key, value, version FROM plugin_key \
                       WHERE plugin = ?1 AND key >= ?2 AND key < ?3 AND (expires_at IS NULL OR expires_at > ?4) \
                       ORDER BY key LIMIT ?5";
            let (from, end) = span(&prefix, after.as_deref());
            db.prepare_cached(sql)?.query_map(params![plugin, from, end, now, limit], entry)?.collect()
        })
        .await
    }
}

fn entry(row: &Row<'_>) -> Result<KvEntry> {
    let key = String::from_utf8(row.get("key")?);
    let key = key.map_err(|error| rusqlite::types::FromSqlError::Other(Box::new(error)))?;
    Ok(KvEntry { key, value: row.get("value")?, version: row.get::<_, Number>("version")?.0 })
}

/// Sweeps expired keys and looks up what a batch needs.
pub(super) fn look<'b>(db: &Connection, asked: &Asked<'b>) -> Result<Changes<'b>> {
    forget(db, asked.ended_by.minus(Commit::REMEMBERED))?;
    let mut usage = Vec::with_capacity(asked.plugins.len());
    for plugin in &asked.plugins {
        usage.push((*plugin, sweep(db, plugin, used(db, plugin)?, asked.ended_by)?));
    }
    let mut find = db.prepare_cached(
        "SELECT version, length(key) + length(value) AS bytes, expires_at FROM plugin_key WHERE plugin = ?1 AND key = ?2",
    )?;
    let mut held = Vec::with_capacity(asked.keys.len());
    for (plugin, key) in &asked.keys {
        let found = find.query_row(params![plugin, key.as_bytes()], |row| {
            Ok(Held {
                version: row.get::<_, Number>("version")?.0,
                bytes: row.get::<_, Number>("bytes")?.0,
                expires_at: row.get("expires_at")?,
            })
        });
        held.extend(found.optional()?.map(|found| ((*plugin, *key), found)));
    }
    let mut find = db.prepare_cached("SELECT channel_id FROM chat_message WHERE id = ?1 AND deleted_at IS NULL")?;
    let mut messages = Vec::with_capacity(asked.messages.len());
    for message in &asked.messages {
        messages.extend(find.query_row([message], |row| row.get(0)).optional()?.map(|channel| (*message, channel)));
    }
    Ok(Changes::of(usage, held, messages))
}

fn used(db: &Connection, plugin: &PluginName) -> Result<Usage> {
    let read = |row: &Row<'_>| {
        Ok(Usage {
            keys: row.get::<_, Number>("keys")?.0,
            bytes: row.get::<_, Number>("bytes")?.0,
            version: row.get::<_, Number>("version")?.0,
        })
    };
    let found = db
        .prepare_cached("SELECT keys, bytes, version FROM plugin_usage WHERE plugin = ?1")?
        .query_row([plugin], read)
        .optional()?;
    Ok(found.unwrap_or_default())
}

fn sweep(db: &Connection, plugin: &PluginName, mut usage: Usage, ended_by: Timestamp) -> Result<Usage> {
    let sql = "DELETE FROM plugin_key WHERE rowid IN ( \
                   SELECT rowid FROM plugin_key WHERE plugin = ?1 AND expires_at <= ?2 ORDER BY expires_at LIMIT ?3) \
               RETURNING length(key) + length(value)";
    let mut sweep = db.prepare_cached(sql)?;
    for bytes in sweep.query_map(params![plugin, ended_by, SWEPT], |row| row.get::<_, Number>(0))? {
        usage.swept(bytes?.0);
    }
    Ok(usage)
}

/// Deletes requests without a message that are older than this.
fn forget(db: &Connection, before: Timestamp) -> Result<()> {
    let sql = "DELETE FROM request_without_message WHERE (sender_id, client_id) IN ( \
                   SELECT sender_id, client_id FROM request_without_message \
                   WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)";
    db.prepare_cached(sql)?.execute(params![before, SWEPT]).map(drop)
}

/// Writes what was decided.
pub(super) fn write(db: &Connection, changes: &Changes<'_>) -> Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO plugin_key (plugin, key, value, version, expires_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE \
             SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at",
    )?;
    let mut take = db.prepare_cached("DELETE FROM plugin_key WHERE plugin = ?1 AND key = ?2")?;
    for (plugin, key, kept) in changes.keys() {
        match kept {
            Some(kept) => {
                put.execute(params![plugin, key.as_bytes(), kept.value, Number(kept.version), kept.expires_at])?
            }
            None => take.execute(params![plugin, key.as_bytes()])?,
        };
    }
    let mut count = db.prepare_cached(
        "INSERT INTO plugin_usage (plugin, keys, bytes, version) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT DO UPDATE SET keys = excluded.keys, bytes = excluded.bytes, version = excluded.version",
    )?;
    for (plugin, usage) in changes.usage() {
        count.execute(params![plugin, Number(usage.keys), Number(usage.bytes), Number(usage.version)])?;
    }
    let mut amend = db.prepare_cached(
        "UPDATE chat_message SET content = ?2, edited_at = coalesce(?3, edited_at), deleted_at = ?4, \
                                 attachments = CASE WHEN ?4 IS NULL THEN attachments ELSE '[]' END WHERE id = ?1",
    )?;
    for (message, amended) in changes.amended() {
        amend.execute(params![message, amended.content, amended.edited_at, amended.deleted_at])?;
    }
    Ok(())
}

/// Remembers the request of a commit that stored no message to remember it by.
pub(super) fn remember(db: &Connection, commit: &Commit, seq: u64) -> Result<()> {
    let Some((key, digest)) = lone_request(commit) else { return Ok(()) };
    let sql = "INSERT INTO request_without_message (sender_id, client_id, request_digest, channel_id, seq, created_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let params = params![commit.sender.id, key.as_str(), digest.as_slice(), commit.channel, Number(seq), commit.at];
    db.prepare_cached(sql)?.execute(params).map(drop)
}
