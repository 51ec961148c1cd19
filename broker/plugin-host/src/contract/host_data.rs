//! What handlers may read. The broker answers from its store and its presence, a replay from a file.

use async_trait::async_trait;

use switchboard_model::{ChannelKey, KvEntry, Message, MessageId, PluginName, TenantSlug, User, UserId};

/// Reads about one channel, or of one plugin's keys. Channel, tenant and plugin come from the broker, never from a guest.
/// An error means: not now.
#[async_trait]
pub trait HostData: Send + Sync + 'static {
    /// The newest messages before a `seq`, or of all, in ascending order.
    async fn recent(&self, channel: &ChannelKey, before: Option<u64>, limit: u32) -> Result<Vec<Message>, Unavailable>;

    /// One message of the channel.
    async fn message(&self, channel: &ChannelKey, id: MessageId) -> Result<Option<Message>, Unavailable>;

    /// Members by id, those after a given one first.
    async fn members(&self, channel: &ChannelKey, after: Option<&UserId>, limit: u32)
    -> Result<Vec<User>, Unavailable>;

    /// Whether a member is in the channel.
    async fn contains(&self, channel: &ChannelKey, user: &UserId) -> Result<bool, Unavailable>;

    /// Members with a live session in the channel.
    async fn online(&self, channel: &ChannelKey, limit: usize) -> Result<Vec<User>, Unavailable>;

    /// A plugin's key in a tenant.
    async fn kv_get(&self, tenant: &TenantSlug, plugin: &PluginName, key: &str)
    -> Result<Option<KvEntry>, Unavailable>;

    /// A plugin's keys with a prefix in the order of their bytes, those after a given one first.
    async fn kv_list(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, Unavailable>;
}

/// The data cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to read: not available now")]
pub struct Unavailable;

/// Answers nothing, for a component that is only looked at or that is not to read.
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
