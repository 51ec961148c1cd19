//! Which tenants there are. What is theirs is none of this file's business.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::Sqlite;
use super::file::blocking;
use super::migrate;
use super::rows;
use crate::{StoreError, TenantStore};
use switchboard_model::{Tenant, TenantSlug, Timestamp};

macro_rules! tenant_where {
    ($condition:literal) => {
        concat!("SELECT slug, external_id, enabled, created_at, tokens_since, revision FROM tenant WHERE ", $condition)
    };
}
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
        let tenant =
            Tenant { slug: slug.clone(), external_id, enabled: true, created_at: at, tokens_since: None, revision: 0 };
        self.catalogue
            .write(move |db| match find(db, &tenant.slug)? {
                Some(_) => Ok(None),
                None => insert(db, &tenant).map(|()| Some(tenant)),
            })
            .await
    }

    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError> {
        let name = slug.clone();
        let found = self.catalogue.read(move |db| find(db, &name)).await?;
        self.forget_unless(slug, found.as_ref()).await;
        Ok(found)
    }

    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError> {
        let id = id.to_owned();
        self.catalogue
            .read(move |db| {
                db.prepare_cached(tenant_where!("external_id = ?1"))?.query_row([id], rows::tenant).optional()
            })
            .await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.catalogue
            .read(|db| db.prepare_cached(tenant_where!("true ORDER BY slug"))?.query_map([], rows::tenant)?.collect())
            .await
    }

    async fn tenants_among(&self, slugs: &[TenantSlug]) -> Result<Vec<Tenant>, StoreError> {
        let wanted = slugs.to_vec();
        let found: Vec<Tenant> = self
            .catalogue
            .read(move |db| wanted.iter().filter_map(|slug| find(db, slug).transpose()).collect())
            .await?;
        for slug in slugs {
            self.forget_unless(slug, found.iter().find(|tenant| tenant.slug == *slug)).await;
        }
        Ok(found)
    }

    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool, at: Timestamp) -> Result<bool, StoreError> {
        let slug = slug.clone();
        self.catalogue
            .write(move |db| {
                let sql = "UPDATE tenant SET enabled = ?2, tokens_since = ?3, revision = revision + 1 WHERE slug = ?1";
                Ok(db.execute(sql, params![slug, enabled, at])? == 1)
            })
            .await
    }

    /// Deletes the file, then the line in the catalogue: a crash between the two leaves a tenant without a file, which can
    /// be deleted again. The other way round, the next tenant of this name would take over the data. A broker that has the
    /// file open goes on with what is no longer there until it finds that the tenant is gone.
    async fn delete_tenant(&self, slug: &TenantSlug) -> Result<bool, StoreError> {
        if self.tenant(slug).await?.is_none() {
            return Ok(false);
        }
        let (folder, name) = (self.folder.clone(), slug.clone());
        blocking(move || migrate::remove_tenant(&folder, &name)).await?;
        let name = slug.clone();
        let gone = self
            .catalogue
            .write(move |db| {
                // A tenant of the same name that is created later begins without what was decided for this one.
                if db.execute("DELETE FROM plugin_entry WHERE scope = ?1", params![name])? > 0 {
                    db.execute("UPDATE plugin_catalogue SET revision = revision + 1", [])?;
                }
                Ok(db.execute("DELETE FROM tenant WHERE slug = ?1", params![name])? == 1)
            })
            .await?;
        self.open.invalidate(slug).await;
        Ok(gone)
    }
}

impl Sqlite {
    /// Closes a tenant's file if the tenant is gone, or another one has its name now.
    async fn forget_unless(&self, slug: &TenantSlug, found: Option<&Tenant>) {
        if let Some((created_at, _)) = self.open.get(slug).await
            && found.is_none_or(|tenant| tenant.created_at != created_at)
        {
            self.open.invalidate(slug).await;
        }
    }
}

fn insert(db: &Connection, tenant: &Tenant) -> Result<()> {
    let sql = "INSERT INTO tenant (slug, external_id, enabled, created_at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, params![tenant.slug, tenant.external_id, tenant.enabled, tenant.created_at]).map(drop)
}

fn find(db: &Connection, slug: &TenantSlug) -> Result<Option<Tenant>> {
    db.prepare_cached(tenant_where!("slug = ?1"))?.query_row([slug], rows::tenant).optional()
}
