//! Tenants.

use async_trait::async_trait;
use switchboard_model::{Tenant, TenantSlug, Timestamp};

use crate::StoreError;

/// Tenants, each with a schema or a file of its own.
#[async_trait]
pub trait TenantStore: Send + Sync + 'static {
    /// Creates a tenant with its schema. `None`: the slug is taken.
    async fn create_tenant(
        &self,
        slug: &TenantSlug,
        external_id: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<Tenant>, StoreError>;

    /// Finds a tenant, enabled or not.
    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError>;

    /// Finds a tenant by the id that its tokens carry.
    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError>;

    /// All tenants, by slug.
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;

    /// Those of some tenants that exist, in any order. It is cheap: every node asks once a second for the tenants with open
    /// sockets.
    async fn tenants_among(&self, slugs: &[TenantSlug]) -> Result<Vec<Tenant>, StoreError>;

    /// Enables or disables a tenant, and ends the tokens of its members. `false`: there is no such tenant.
    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool, at: Timestamp) -> Result<bool, StoreError>;

    /// Deletes a tenant with all its data, and what operators decided about plugins for it. `false`: there is no such tenant.
    async fn delete_tenant(&self, slug: &TenantSlug) -> Result<bool, StoreError>;
}
