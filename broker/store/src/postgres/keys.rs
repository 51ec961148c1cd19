//! What plugins keep in a tenant: reading it. Writing it is a commit's.

use tokio_postgres::Row;

use super::connection::{Database, Param, unreadable};
use super::rows::Number;
use crate::StoreError;
use crate::changes::span;
use switchboard_model::{KvEntry, PluginName, TenantSlug, Timestamp};

pub(super) async fn get(
    database: &Database,
    tenant: &TenantSlug,
    plugin: &PluginName,
    key: &str,
    now: Timestamp,
) -> Result<Option<KvEntry>, StoreError> {
    let sql = "SELECT key, value, version FROM {t}.plugin_key \
               WHERE plugin = $1 AND key = $2 AND (expires_at IS NULL OR expires_at > $3)";
    let found = database.tenant(tenant, sql, &[plugin, &key.as_bytes(), &now]).await?;
    found.first().map(entry).transpose()
}

pub(super) async fn list(
    database: &Database,
    tenant: &TenantSlug,
    plugin: &PluginName,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<KvEntry>, StoreError> {
    let sql = "SELECT key, value, version FROM {t}.plugin_key \
               WHERE plugin = $1 AND key >= $2 AND key < $3 AND (expires_at IS NULL OR expires_at > $4) \
               ORDER BY key LIMIT $5";
    let (from, end) = span(prefix, after);
    let params: &[Param<'_>] = &[plugin, &from, &end, &now, &i64::from(limit)];
    database.tenant(tenant, sql, params).await?.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<KvEntry, StoreError> {
    let key = String::from_utf8(row.try_get("key").map_err(unreadable)?);
    Ok(KvEntry {
        key: key.map_err(|error| StoreError::Failed(Box::new(error)))?,
        value: row.try_get("value").map_err(unreadable)?,
        version: row.try_get::<_, Number>("version").map_err(unreadable)?.0,
    })
}
