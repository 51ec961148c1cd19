//! Reads the keys of plugins in a tenant. Commits write them.

use async_trait::async_trait;
use switchboard_model::{KvEntry, PluginName, TenantSlug, Timestamp};

use crate::StoreError;

/// The keys of plugins in a tenant. Commits write them.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// A plugin's key in a tenant; `None` if it does not exist or has expired.
    async fn kv_get(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KvEntry>, StoreError>;

    /// A plugin's keys with a prefix, in byte order, starting after a key.
    async fn kv_list(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<KvEntry>, StoreError>;
}
