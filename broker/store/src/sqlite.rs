//! The store in a folder of SQLite files: `catalog.db`, and `tenants/<slug>.db` for each tenant.
//!
//! It serves one broker; the command line may write at the same time. A tenant's file is opened and migrated when the
//! tenant is first asked for, and the least recently used files are closed. A file that the catalogue expects is never
//! created again: if it is missing, empty or unreadable, its tenant fails and no other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use moka::future::Cache;
use rusqlite::params;
use tokio::time::timeout;

use self::file::{BOUND, File, blocking};
use crate::{Store, StoreError, TenantStore};
use switchboard_model::{TenantSlug, Timestamp};

mod catalogue;
mod channels;
mod commit;
mod file;
mod keys;
mod members;
mod messages;
mod migrate;
mod rows;
mod tenants;

/// Tenant files open at once by default. Each takes up to seven descriptors.
const OPEN_TENANTS: usize = 128;

/// For `tests/fuzz`: a tenant's file.
#[cfg(feature = "fuzzing")]
pub fn tenant_file_path(folder: &Path, tenant: &TenantSlug) -> PathBuf {
    migrate::tenant_path(folder, tenant)
}

pub struct Sqlite {
    folder: PathBuf,
    catalogue: File,
    /// The open files of tenants, each with the time at which its tenant was created.
    open: Cache<TenantSlug, (Timestamp, File)>,
}

impl Sqlite {
    /// Opens the folder, or creates it. Files and folders created here are private to this user.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the folder cannot be used, [`StoreError::Migrate`] if the catalogue belongs to a
    /// newer broker, [`StoreError::Damaged`] if it is missing although there are tenants.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_for(folder, OPEN_TENANTS).await
    }

    /// As [`Sqlite::open`], with this many tenant files open at once.
    pub async fn open_for(folder: &Path, tenants: usize) -> Result<Self, StoreError> {
        let path = folder.to_owned();
        blocking(move || migrate::catalogue(&path)).await?;
        // Closing a file waits for the disk, which the thread that happens to evict it must not do.
        let close = |_, open: (Timestamp, File), _| drop(tokio::task::spawn_blocking(move || drop(open)));
        Ok(Self {
            folder: folder.to_owned(),
            catalogue: File::new(&migrate::catalogue_path(folder)),
            open: Cache::builder().max_capacity(tenants as u64).eviction_listener(close).build(),
        })
    }

    /// A tenant's file. Calls that come while it is being opened wait for that, so that it is migrated once.
    async fn tenant_file(&self, tenant: &TenantSlug) -> Result<File, StoreError> {
        if let Some((_, file)) = self.open.get(tenant).await {
            return Ok(file);
        }
        // Boxed, so that the many calls that find the file open stay small.
        let opening = Box::pin(self.open.try_get_with_by_ref(tenant, async {
            let Some(found) = self.tenant(tenant).await? else { return Err(StoreError::NoTenant(tenant.clone())) };
            let (folder, slug) = (self.folder.clone(), tenant.clone());
            blocking(move || migrate::known_tenant(&folder, &slug)).await?;
            Ok((found.created_at, File::new(&migrate::tenant_path(&self.folder, tenant))))
        }));
        match timeout(BOUND, opening).await {
            Ok(opened) => opened.map(|(_, file)| file).map_err(|shared| StoreError::clone(&shared)),
            Err(late) => Err(StoreError::Unavailable(Arc::new(late))),
        }
    }

    /// Writes what ends a right of somebody in a tenant, and makes the tenant's revision grow if something was changed. The
    /// two are in different files. After a crash in between, open sockets do not hear of it, and whoever asked has no answer
    /// and asks again.
    async fn dismiss(
        &self,
        tenant: &TenantSlug,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<bool> + Send + 'static,
    ) -> Result<bool, StoreError> {
        let changed = self.write(tenant, work).await?;
        if changed {
            let slug = tenant.clone();
            let grow = "UPDATE tenant SET revision = revision + 1 WHERE slug = ?1";
            self.catalogue.write(move |db| db.prepare_cached(grow)?.execute(params![slug]).map(drop)).await?;
        }
        Ok(changed)
    }

    async fn read<T: Send + 'static>(
        &self,
        tenant: &TenantSlug,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.tenant_file(tenant).await?.read(work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        tenant: &TenantSlug,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.tenant_file(tenant).await?.write(work).await
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn ping(&self) -> Result<(), StoreError> {
        self.catalogue.read(|db| db.query_row("SELECT 1", [], |_| Ok(()))).await
    }
}
