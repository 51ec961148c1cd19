//! Host data: what handlers may read, from the store and from presence.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{ChannelKey, Clock, KvEntry, Message, MessageId, PluginName, TenantSlug, User, UserId};
use crate::plugin::{HostData, Unavailable};
use crate::presence::Presence;
use crate::store::{Span, Store, StoreError};

pub struct Reads {
    store: Arc<dyn Store>,
    presence: Arc<dyn Presence>,
    clock: Clock,
}

impl Reads {
    /// The clock decides which keys have expired.
    pub fn new(store: Arc<dyn Store>, presence: Arc<dyn Presence>, clock: Clock) -> Self {
        Self { store, presence, clock }
    }
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads").finish_non_exhaustive()
    }
}

#[async_trait]
impl HostData for Reads {
    async fn recent(&self, channel: &ChannelKey, before: Option<u64>, limit: u32) -> Result<Vec<Message>, Unavailable> {
        let span = before.map_or(Span::Latest, Span::Before);
        self.store.messages(&channel.tenant, channel.channel, span, limit).await.map_err(away)
    }

    async fn message(&self, channel: &ChannelKey, id: MessageId) -> Result<Option<Message>, Unavailable> {
        self.store.message(&channel.tenant, channel.channel, id).await.map_err(away)
    }

    async fn members(
        &self,
        channel: &ChannelKey,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<User>, Unavailable> {
        let members = self.store.channel_members(&channel.tenant, channel.channel, after, limit).await.map_err(away)?;
        Ok(members.into_iter().map(|member| member.user).collect())
    }

    async fn contains(&self, channel: &ChannelKey, user: &UserId) -> Result<bool, Unavailable> {
        let role = self.store.role(&channel.tenant, channel.channel, user).await.map_err(away)?;
        Ok(role.is_some())
    }

    async fn online(&self, channel: &ChannelKey, limit: usize) -> Result<Vec<User>, Unavailable> {
        self.presence.present(channel, None, limit).await.map_err(|error| {
            tracing::warn!(%error, "a handler's read failed");
            Unavailable
        })
    }

    async fn kv_get(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        key: &str,
    ) -> Result<Option<KvEntry>, Unavailable> {
        self.store.kv_get(tenant, plugin, key, self.clock.now()).await.map_err(away)
    }

    async fn kv_list(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, Unavailable> {
        self.store.kv_list(tenant, plugin, prefix, after, limit, self.clock.now()).await.map_err(away)
    }
}

fn away(error: StoreError) -> Unavailable {
    tracing::warn!(%error, "a handler's read failed");
    Unavailable
}
