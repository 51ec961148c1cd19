//! Which tenants there are. What is theirs is none of this file's business.

use super::Postgres;
use super::connection::unreadable;
use super::migrate;
use super::rows;
use crate::{StoreError, TenantStore};
use async_trait::async_trait;
use switchboard_model::{Tenant, TenantSlug, Timestamp};

#[async_trait]
impl TenantStore for Postgres {
    async fn create_tenant(
        &self,
        slug: &TenantSlug,
        external_id: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        self.database.bounded(None, migrate::create_tenant(&self.database, slug, external_id, at)).await
    }

    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError> {
        let sql = "SELECT slug, external_id, enabled, created_at FROM switchboard.tenant WHERE slug = $1";
        let found = self.database.catalogue(sql, &[slug]).await?;
        found.first().map(rows::tenant).transpose().map_err(unreadable)
    }

    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError> {
        let sql = "SELECT slug, external_id, enabled, created_at FROM switchboard.tenant WHERE external_id = $1";
        let found = self.database.catalogue(sql, &[&id]).await?;
        found.first().map(rows::tenant).transpose().map_err(unreadable)
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let sql = "SELECT slug, external_id, enabled, created_at FROM switchboard.tenant ORDER BY slug";
        let found = self.database.catalogue(sql, &[]).await?;
        found.iter().map(rows::tenant).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool) -> Result<bool, StoreError> {
        let sql = "UPDATE switchboard.tenant SET enabled = $2 WHERE slug = $1 RETURNING slug";
        Ok(!self.database.catalogue(sql, &[slug, &enabled]).await?.is_empty())
    }
}
