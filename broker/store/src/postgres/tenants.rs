//! Which tenants there are. What is theirs is none of this file's business.

use super::Postgres;
use super::connection::unreadable;
use super::migrate;
use super::rows;
use crate::{StoreError, TenantStore};
use async_trait::async_trait;
use switchboard_model::{Tenant, TenantSlug, Timestamp};

macro_rules! tenant_where {
    ($condition:literal) => {
        concat!(
            "SELECT slug, external_id, enabled, created_at, tokens_since, revision FROM switchboard.tenant WHERE ",
            $condition
        )
    };
}

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
        let sql = tenant_where!("slug = $1");
        let found = self.database.catalogue(sql, &[slug]).await?;
        found.first().map(rows::tenant).transpose().map_err(unreadable)
    }

    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError> {
        let sql = tenant_where!("external_id = $1");
        let found = self.database.catalogue(sql, &[&id]).await?;
        found.first().map(rows::tenant).transpose().map_err(unreadable)
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let sql = tenant_where!("true ORDER BY slug");
        let found = self.database.catalogue(sql, &[]).await?;
        found.iter().map(rows::tenant).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn tenants_among(&self, slugs: &[TenantSlug]) -> Result<Vec<Tenant>, StoreError> {
        let found = self.database.catalogue(tenant_where!("slug = ANY ($1)"), &[&slugs]).await?;
        found.iter().map(rows::tenant).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool, at: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE switchboard.tenant SET enabled = $2, tokens_since = $3, revision = revision + 1 \
                   WHERE slug = $1 RETURNING slug";
        Ok(!self.database.catalogue(sql, &[slug, &enabled, &at]).await?.is_empty())
    }

    async fn delete_tenant(&self, slug: &TenantSlug) -> Result<bool, StoreError> {
        migrate::delete_tenant(&self.database, slug).await
    }
}
