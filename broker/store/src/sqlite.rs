//! The store in a folder of SQLite files: `catalog.db`, and `tenants/<slug>.db` for each tenant.
//!
//! It serves one broker; the command line may write beside it. A tenant's file is opened, and migrated, when the tenant
//! is first asked for, and the files that were not used longest are closed. A file that the catalogue says should be there
//! is never made anew: one that is missing, empty or unreadable stops its tenant, and nobody else.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use moka::future::Cache;
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::file::{BOUND, File, blocking};
use super::{ChannelSummary, Commit, Credentials, NewChannel, Outcome, Span, Store, StoreError};
use switchboard_model::{
    Channel, ChannelId, ChannelMember, Message, MessageId, Position, Role, Tenant, TenantSlug, Timestamp, User, UserId,
    Username,
};

mod catalogue;
mod channels;
mod commit;
mod file;
mod keys;
mod members;
mod messages;
mod migrate;
mod plugins;
mod rows;

/// How many tenants' files are open at once unless somebody says otherwise. Each takes up to seven descriptors.
const OPEN_TENANTS: usize = 128;

/// A folder of databases.
pub struct Sqlite {
    folder: PathBuf,
    catalogue: File,
    open: Cache<TenantSlug, File>,
    opening: Mutex<()>,
}

impl Sqlite {
    /// Opens the folder, and makes it when it is not there: files are for this user alone, as are folders made here.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the folder cannot be used, [`StoreError::Migrate`] when the catalogue is of a
    /// newer broker, [`StoreError::Damaged`] when it is gone and tenants are there.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_for(folder, OPEN_TENANTS).await
    }

    /// As [`Sqlite::open`], with the files of so many tenants open at once.
    pub async fn open_for(folder: &Path, tenants: usize) -> Result<Self, StoreError> {
        let path = folder.to_owned();
        blocking(move || migrate::catalogue(&path)).await?;
        // Closing a file waits for the disk, which is nothing for the thread that happens to push it out.
        let close = |_, file: File, _| drop(tokio::task::spawn_blocking(move || drop(file)));
        Ok(Self {
            folder: folder.to_owned(),
            catalogue: File::new(&migrate::catalogue_path(folder)),
            open: Cache::builder().max_capacity(tenants as u64).eviction_listener(close).build(),
            opening: Mutex::new(()),
        })
    }

    /// A tenant's file. Files are opened one after the other, so that none is migrated twice at once.
    async fn tenant_file(&self, tenant: &TenantSlug) -> Result<File, StoreError> {
        if let Some(file) = self.open.get(tenant).await {
            return Ok(file);
        }
        // In a box, so that the many calls that find it open are small while they wait.
        let opening = Box::pin(async {
            let _turn = self.opening.lock().await;
            if let Some(file) = self.open.get(tenant).await {
                return Ok(file);
            }
            if self.tenant(tenant).await?.is_none() {
                return Err(StoreError::NoTenant(tenant.clone()));
            }
            let (folder, slug) = (self.folder.clone(), tenant.clone());
            blocking(move || migrate::known_tenant(&folder, &slug)).await?;
            let file = File::new(&migrate::tenant_path(&self.folder, tenant));
            self.open.insert(tenant.clone(), file.clone()).await;
            Ok(file)
        });
        match timeout(BOUND, opening).await {
            Ok(file) => file,
            Err(late) => Err(StoreError::Unavailable(Box::new(late))),
        }
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
            .write(move |db| match catalogue::find(db, &tenant.slug)? {
                Some(_) => Ok(None),
                None => catalogue::insert(db, &tenant).map(|()| Some(tenant)),
            })
            .await
    }

    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError> {
        let slug = slug.clone();
        self.catalogue.read(move |db| catalogue::find(db, &slug)).await
    }

    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError> {
        let id = id.to_owned();
        self.catalogue.read(move |db| catalogue::find_by_external_id(db, &id)).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.catalogue.read(|db| catalogue::all(db)).await
    }

    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool) -> Result<bool, StoreError> {
        let slug = slug.clone();
        self.catalogue.write(move |db| catalogue::set_enabled(db, &slug, enabled)).await
    }

    async fn create_member(
        &self,
        tenant: &TenantSlug,
        user: &User,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (user, hash) = (user.clone(), password_hash.map(str::to_owned));
        self.write(tenant, move |db| members::create(db, &user, hash.as_deref(), at)).await
    }

    async fn member(&self, tenant: &TenantSlug, id: &UserId) -> Result<Option<User>, StoreError> {
        let id = id.clone();
        self.read(tenant, move |db| members::find(db, &id)).await
    }

    async fn credentials(&self, tenant: &TenantSlug, username: &Username) -> Result<Option<Credentials>, StoreError> {
        let username = username.clone();
        self.read(tenant, move |db| members::credentials(db, &username)).await
    }

    async fn create_channel(&self, tenant: &TenantSlug, new: &NewChannel) -> Result<bool, StoreError> {
        let new = new.clone();
        self.write(tenant, move |db| channels::create(db, &new)).await
    }

    async fn role(&self, tenant: &TenantSlug, channel: ChannelId, viewer: &UserId) -> Result<Option<Role>, StoreError> {
        let viewer = viewer.clone();
        self.read(tenant, move |db| channels::role(db, channel, &viewer)).await
    }

    async fn channel(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<Option<Channel>, StoreError> {
        self.read(tenant, move |db| channels::find(db, channel)).await
    }

    async fn positions(&self, tenant: &TenantSlug, channels: &[ChannelId]) -> Result<Vec<Position>, StoreError> {
        let channels = channels.to_vec();
        self.read(tenant, move |db| channels::positions(db, &channels)).await
    }

    async fn channel_summary(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        viewer: &UserId,
    ) -> Result<Option<ChannelSummary>, StoreError> {
        let viewer = viewer.clone();
        Ok(self.read(tenant, move |db| channels::summaries(db, &viewer, Some(channel), None, 1)).await?.pop())
    }

    async fn channel_summaries(
        &self,
        tenant: &TenantSlug,
        viewer: &UserId,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<ChannelSummary>, StoreError> {
        let viewer = viewer.clone();
        self.read(tenant, move |db| channels::summaries(db, &viewer, None, after, limit)).await
    }

    async fn channel_members(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<ChannelMember>, StoreError> {
        let after = after.cloned();
        self.read(tenant, move |db| channels::members(db, channel, after.as_ref(), limit)).await
    }

    async fn members_among(
        &self,
        tenant: &TenantSlug,
        seats: &[(ChannelId, UserId)],
    ) -> Result<Vec<(ChannelId, UserId)>, StoreError> {
        let seats = seats.to_vec();
        self.read(tenant, move |db| channels::members_among(db, seats)).await
    }

    async fn member_count(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<u64, StoreError> {
        self.read(tenant, move |db| channels::member_count(db, channel)).await
    }

    async fn add_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
        role: Role,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let user = user.clone();
        self.write(tenant, move |db| channels::add_member(db, channel, &user, role, at)).await
    }

    async fn remove_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
    ) -> Result<bool, StoreError> {
        let user = user.clone();
        self.write(tenant, move |db| channels::remove_member(db, channel, &user)).await
    }

    async fn messages(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        self.read(tenant, move |db| messages::span(db, channel, span, limit)).await
    }

    async fn message(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        id: MessageId,
    ) -> Result<Option<Message>, StoreError> {
        self.read(tenant, move |db| messages::find(db, channel, id)).await
    }

    async fn commit(&self, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
        let batch = batch.to_vec();
        self.write(tenant, move |db| commit::commit(db, &batch)).await
    }

    /// A file has one writer.
    fn batches_at_once(&self) -> usize {
        1
    }

    async fn spend_refresh(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        family: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (jti, family) = (jti.to_owned(), family.to_owned());
        self.write(tenant, move |db| members::spend_refresh(db, &jti, &family, expires_at, now)).await
    }
}
