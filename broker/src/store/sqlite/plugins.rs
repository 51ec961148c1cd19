//! What the store keeps for plugins.

use async_trait::async_trait;

use super::Sqlite;
use crate::model::catalogue::{Audit, Catalogue, Change, NodeReport};
use crate::model::{Digest, KvEntry, PluginName, TenantSlug, Timestamp};
use crate::store::{PluginStore, StoreError};

#[async_trait]
impl PluginStore for Sqlite {
    async fn catalogue_revision(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        Ok(Catalogue::default())
    }

    async fn artefact(&self, _digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    async fn change_catalogue(&self, _at: u64, _change: &Change) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn audit(&self, _before: Option<u64>, _limit: u32) -> Result<Vec<Audit>, StoreError> {
        Ok(Vec::new())
    }

    async fn report_node(&self, _report: &NodeReport) -> Result<(), StoreError> {
        Ok(())
    }

    async fn nodes(&self, _since: Timestamp) -> Result<Vec<NodeReport>, StoreError> {
        Ok(Vec::new())
    }

    async fn kv_get(
        &self,
        _tenant: &TenantSlug,
        _plugin: &PluginName,
        _key: &str,
        _now: Timestamp,
    ) -> Result<Option<KvEntry>, StoreError> {
        Ok(None)
    }

    async fn kv_list(
        &self,
        _tenant: &TenantSlug,
        _plugin: &PluginName,
        _prefix: &str,
        _after: Option<&str>,
        _limit: u32,
        _now: Timestamp,
    ) -> Result<Vec<KvEntry>, StoreError> {
        Ok(Vec::new())
    }
}
