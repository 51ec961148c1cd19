//! The store on Postgres: a schema a tenant, `tenant_<slug>`, and the catalogue in the schema `switchboard`.
//!
//! Any number of brokers may use one database. Each call is one statement with qualified names, but for commits that change
//! keys or messages, which are a transaction; so no call depends on what another left in a session. Connections are not encrypted; the server belongs on the broker's own network.

use async_trait::async_trait;

use super::{ChannelSummary, Commit, Credentials, NewChannel, Outcome, Span, Store, StoreError};
use switchboard_model::{
    Channel, ChannelId, ChannelMember, Message, MessageId, Position, Role, Tenant, TenantSlug, Timestamp, User, UserId,
    Username,
};

mod catalogue;
mod changes;
mod channels;
mod circuit;
mod commit;
mod connection;
mod keys;
mod members;
mod messages;
mod migrate;
mod places;
mod plugins;
mod pool;
mod rows;
mod statement;

pub use connection::Options;

/// A pool of connections to a Postgres server.
pub struct Postgres {
    database: connection::Database,
}

impl Postgres {
    /// Connects to `postgres://user:password@host:port/name` and migrates the catalogue and every tenant. Brokers that
    /// start together take turns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] names host and port, never the password, and comes within the bound.
    pub async fn open(url: &str, options: Options) -> Result<Self, StoreError> {
        let database = connection::Database::new(url, &options)?;
        migrate::everything(&database).await?;
        Ok(Self { database })
    }
}

#[async_trait]
impl Store for Postgres {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.catalogue("SELECT 1", &[]).await.map(drop)
    }

    async fn create_tenant(
        &self,
        slug: &TenantSlug,
        external_id: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        self.database.bounded(None, migrate::create_tenant(&self.database, slug, external_id, at)).await
    }

    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError> {
        catalogue::find(&self.database, slug).await
    }

    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError> {
        catalogue::find_by_external_id(&self.database, id).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        catalogue::all(&self.database).await
    }

    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool) -> Result<bool, StoreError> {
        catalogue::set_enabled(&self.database, slug, enabled).await
    }

    async fn create_member(
        &self,
        tenant: &TenantSlug,
        user: &User,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        members::create(&self.database, tenant, user, password_hash, at).await
    }

    async fn member(&self, tenant: &TenantSlug, id: &UserId) -> Result<Option<User>, StoreError> {
        members::find(&self.database, tenant, id).await
    }

    async fn credentials(&self, tenant: &TenantSlug, username: &Username) -> Result<Option<Credentials>, StoreError> {
        members::credentials(&self.database, tenant, username).await
    }

    async fn create_channel(&self, tenant: &TenantSlug, new: &NewChannel) -> Result<bool, StoreError> {
        channels::create(&self.database, tenant, new).await
    }

    async fn role(&self, tenant: &TenantSlug, channel: ChannelId, viewer: &UserId) -> Result<Option<Role>, StoreError> {
        channels::role(&self.database, tenant, channel, viewer).await
    }

    async fn channel(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<Option<Channel>, StoreError> {
        channels::find(&self.database, tenant, channel).await
    }

    async fn positions(&self, tenant: &TenantSlug, channels: &[ChannelId]) -> Result<Vec<Position>, StoreError> {
        channels::positions(&self.database, tenant, channels).await
    }

    async fn channel_summary(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        viewer: &UserId,
    ) -> Result<Option<ChannelSummary>, StoreError> {
        Ok(channels::summaries(&self.database, tenant, viewer, Some(channel), None, 1).await?.pop())
    }

    async fn channel_summaries(
        &self,
        tenant: &TenantSlug,
        viewer: &UserId,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<ChannelSummary>, StoreError> {
        channels::summaries(&self.database, tenant, viewer, None, after, limit).await
    }

    async fn channel_members(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<ChannelMember>, StoreError> {
        channels::members(&self.database, tenant, channel, after, limit).await
    }

    async fn members_among(
        &self,
        tenant: &TenantSlug,
        seats: &[(ChannelId, UserId)],
    ) -> Result<Vec<(ChannelId, UserId)>, StoreError> {
        channels::members_among(&self.database, tenant, seats).await
    }

    async fn member_count(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<u64, StoreError> {
        channels::member_count(&self.database, tenant, channel).await
    }

    async fn add_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
        role: Role,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        channels::add_member(&self.database, tenant, channel, user, role, at).await
    }

    async fn remove_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
    ) -> Result<bool, StoreError> {
        channels::remove_member(&self.database, tenant, channel, user).await
    }

    async fn messages(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        messages::span(&self.database, tenant, channel, span, limit).await
    }

    async fn message(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        id: MessageId,
    ) -> Result<Option<Message>, StoreError> {
        messages::find(&self.database, tenant, channel, id).await
    }

    async fn commit(&self, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
        commit::commit(&self.database, tenant, batch).await
    }

    /// While the server waits for its disk with one batch, or for a lock, it works on another.
    fn batches_at_once(&self) -> usize {
        3
    }

    async fn spend_refresh(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        family: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        members::spend_refresh(&self.database, tenant, jti, family, expires_at, now).await
    }
}
