//! Which tenants there are. What is theirs is none of this file's business.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::Sqlite;
use super::file::blocking;
use super::migrate;
use super::rows;
use crate::{StoreError, TenantStore};
use switchboard_model::{Tenant, TenantSlug, Timestamp};

#[async_trait]
impl TenantStore for Sqlite {
    /// Makes the tenant's file, then its line in the catalogue: a crash between the two leaves a file that nobody can
    /// reach and that the next attempt takes over.
    async fn create_tenant(
        &self,
        slug: &TenantSlug,
        external_id: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        if self.tenant(slug).await?.is_some() {
            return Ok(None);
        }
        let (folder, name) = (self.folder.clone(), slug.clone());
        blocking(move || migrate::new_tenant(&folder, &name)).await?;
        let external_id = external_id.map(str::to_owned);
        let tenant = Tenant { slug: slug.clone(), external_id, enabled: true, created_at: at };
        self.catalogue
            .write(move |db| match find(db, &tenant.slug)? {
                Some(_) => Ok(None),
                None => insert(db, &tenant).map(|()| Some(tenant)),
            })
            .await
    }

    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError> {
        let slug = slug.clone();
        self.catalogue.read(move |db| find(db, &slug)).await
    }

    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError> {
        let id = id.to_owned();
        self.catalogue
            .read(move |db| {
                let sql = "SELECT slug, external_id, enabled, created_at FROM tenant WHERE external_id = ?1";
                db.prepare_cached(sql)?.query_row([id], rows::tenant).optional()
            })
            .await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.catalogue
            .read(|db| {
                let sql = "SELECT slug, external_id, enabled, created_at FROM tenant ORDER BY slug";
                db.prepare_cached(sql)?.query_map([], rows::tenant)?.collect()
            })
            .await
    }

    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool) -> Result<bool, StoreError> {
        let slug = slug.clone();
        self.catalogue
            .write(move |db| {
                let changed = db.execute("UPDATE tenant SET enabled = ?2 WHERE slug = ?1", params![slug, enabled])?;
                Ok(changed == 1)
            })
            .await
    }
}

fn insert(db: &Connection, tenant: &Tenant) -> Result<()> {
    let sql = "INSERT INTO tenant (slug, external_id, enabled, created_at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, params![tenant.slug, tenant.external_id, tenant.enabled, tenant.created_at]).map(drop)
}

fn find(db: &Connection, slug: &TenantSlug) -> Result<Option<Tenant>> {
    let sql = "SELECT slug, external_id, enabled, created_at FROM tenant WHERE slug = ?1";
    db.prepare_cached(sql)?.query_row([slug], rows::tenant).optional()
}
