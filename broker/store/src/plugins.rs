//! What the store keeps for plugins: the catalogue with its audit, and each plugin's keys and values in each tenant.

use async_trait::async_trait;

use super::StoreError;
use switchboard_model::catalogue::{Audit, Catalogue, Change, NodeReport};
use switchboard_model::{Digest, KvEntry, PluginName, TenantSlug, Timestamp};

/// The part of a store that is about plugins.
#[async_trait]
pub trait PluginStore: Send + Sync + 'static {
    /// The number of the last change; 0 when there was none. Cheap: every node asks once a second.
    async fn catalogue_revision(&self) -> Result<u64, StoreError>;

    /// All that is decided, as of one moment.
    async fn catalogue(&self) -> Result<Catalogue, StoreError>;

    /// The bytes of a component.
    async fn artefact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// Changes the catalogue if it still stands at a revision, and answers the new one. `None`: it does not, and nothing
    /// was changed. A change of nothing but the audit is written down whatever the revision, and leaves it as it is. A
    /// component that is kept already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when a version or a generation that is to be added is there already; nothing was changed.
    async fn change_catalogue(&self, at: u64, change: &Change) -> Result<Option<u64>, StoreError>;

    /// The audit, latest line first, those before a number first.
    async fn audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<Audit>, StoreError>;

    /// Writes down how far a node has come, in the place of what it said before.
    async fn report_node(&self, report: &NodeReport) -> Result<(), StoreError>;

    /// What nodes said since a time, by name. Older reports may be forgotten.
    async fn nodes(&self, since: Timestamp) -> Result<Vec<NodeReport>, StoreError>;

    /// A plugin's key in a tenant; `None` when it is not there or has ended.
    async fn kv_get(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KvEntry>, StoreError>;

    /// A plugin's keys with a prefix, in the order of their bytes, those after a key first.
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
