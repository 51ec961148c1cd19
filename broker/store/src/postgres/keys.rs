//! Reading the keys of plugins. They are written by commits.

use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::Row;

use super::Postgres;
use super::connection::{Param, unreadable};
use super::rows::Number;
use crate::changes::span;
use crate::{KeyStore, StoreError};
use switchboard_model::{KvEntry, PluginName, TenantSlug, Timestamp};

#[async_trait]
impl KeyStore for Postgres {
    async fn kv_get(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KvEntry>, StoreError> {
        let sql = "SELECT key, value, version FROM {t}.plugin_key \
                   WHERE plugin = $1 AND key = $2 AND (expires_at IS NULL OR expires_at > $3)";
        let found = self.database.tenant(tenant, sql, &[plugin, &key.as_bytes(), &now]).await?;
        found.first().map(entry).transpose()
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
        let sql = "SELECT key, value, version FROM {t}.plugin_key \
                   WHERE plugin = $1 AND key >= $2 AND key < $3 AND (expires_at IS NULL OR expires_at > $4) \
                   ORDER BY key LIMIT $5";
        let (from, end) = span(prefix, after);
        let params: &[Param<'_>] = &[plugin, &from, &end, &now, &i64::from(limit)];
        self.database.tenant(tenant, sql, params).await?.iter().map(entry).collect()
    }
}

fn entry(row: &Row) -> Result<KvEntry, StoreError> {
    let key = String::from_utf8(row.try_get("key").map_err(unreadable)?);
    Ok(KvEntry {
        key: key.map_err(|error| StoreError::Failed(Arc::new(error)))?,
        value: row.try_get("value").map_err(unreadable)?,
        version: row.try_get::<_, Number>("version").map_err(unreadable)?.0,
    })
}
