//! What handlers may read. The broker answers from its store and presence, a replay from a file.

use async_trait::async_trait;

use switchboard_model::{ChannelKey, KvEntry, Message, MessageId, PluginName, TenantSlug, User, UserId};

/// Reads of one channel or of one plugin's keys. Channel, tenant and plugin come from the broker, never from a guest.
/// An error means "not now": the same read may succeed later.
#[async_trait]
pub trait HostData: Send + Sync + 'static {
    /// The newest messages, or the newest before a `seq`, in ascending order.
    async fn recent(&self, channel: &ChannelKey, before: Option<u64>, limit: u32) -> Result<Vec<Message>, Unavailable>;

    async fn message(&self, channel: &ChannelKey, id: MessageId) -> Result<Option<Message>, Unavailable>;

    /// Members sorted by id, starting after the given one.
    async fn members(&self, channel: &ChannelKey, after: Option<&UserId>, limit: u32)
    -> Result<Vec<User>, Unavailable>;

    async fn contains(&self, channel: &ChannelKey, user: &UserId) -> Result<bool, Unavailable>;

    /// Members with a live session in the channel.
    async fn online(&self, channel: &ChannelKey, limit: usize) -> Result<Vec<User>, Unavailable>;

    /// A plugin's entry for a key.
    async fn kv_get(&self, tenant: &TenantSlug, plugin: &PluginName, key: &str)
    -> Result<Option<KvEntry>, Unavailable>;

    /// A plugin's entries with a prefix, in byte order of their keys, starting after the given key.
    async fn kv_list(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, Unavailable>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to read: not available at the moment")]
pub struct Unavailable;

/// Fails every read, for a component that is only described or that must not read.
#[derive(Debug, Clone, Copy)]
pub struct NoHostData;

#[async_trait]
impl HostData for NoHostData {
    async fn recent(&self, _: &ChannelKey, _: Option<u64>, _: u32) -> Result<Vec<Message>, Unavailable> {
        Err(Unavailable)
    }

    async fn message(&self, _: &ChannelKey, _: MessageId) -> Result<Option<Message>, Unavailable> {
        Err(Unavailable)
    }

    async fn members(&self, _: &ChannelKey, _: Option<&UserId>, _: u32) -> Result<Vec<User>, Unavailable> {
        Err(Unavailable)
    }

    async fn contains(&self, _: &ChannelKey, _: &UserId) -> Result<bool, Unavailable> {
        Err(Unavailable)
    }

    async fn online(&self, _: &ChannelKey, _: usize) -> Result<Vec<User>, Unavailable> {
        Err(Unavailable)
    }

    async fn kv_get(&self, _: &TenantSlug, _: &PluginName, _: &str) -> Result<Option<KvEntry>, Unavailable> {
        Err(Unavailable)
    }

    async fn kv_list(
        &self,
        _: &TenantSlug,
        _: &PluginName,
        _: &str,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<KvEntry>, Unavailable> {
        Err(Unavailable)
    }
}
