//! Channels, their members, and how a member sees them.

use async_trait::async_trait;
use switchboard_model::{
    Channel, ChannelId, ChannelMember, Epoch, Message, Position, Role, TenantSlug, Timestamp, UserId,
};

use crate::StoreError;

/// A channel to create.
#[derive(Debug, Clone)]
pub struct NewChannel {
    pub id: ChannelId,
    pub name: String,
    /// The epoch of its first numbering.
    pub epoch: Epoch,
    /// Each must be a member of the tenant.
    pub members: Vec<(UserId, Role)>,
    pub at: Timestamp,
}

/// A channel as one of its members sees it in a list.
#[derive(Debug, Clone)]
pub struct ChannelSummary {
    pub channel: Channel,
    /// The viewer's own role in the channel.
    pub role: Role,
    pub member_count: u64,
    /// Number of messages of others after the viewer's read mark, counted up to [`ChannelSummary::MAX_UNREAD`].
    pub unread: u64,
    pub last_message: Option<Message>,
}

impl ChannelSummary {
    /// Unread messages are counted up to this number, so that a list costs the same however long a member was away.
    pub const MAX_UNREAD: u64 = 1_000;
}

/// Channels and their members.
#[async_trait]
pub trait ChannelStore: Send + Sync + 'static {
    /// Creates a channel. `false`: one of the members is not a member of the tenant.
    async fn create_channel(&self, tenant: &TenantSlug, new: &NewChannel) -> Result<bool, StoreError>;

    /// The viewer's role in a channel; `None` if the channel does not exist or the viewer is not in it.
    async fn role(&self, tenant: &TenantSlug, channel: ChannelId, viewer: &UserId) -> Result<Option<Role>, StoreError>;

    /// A channel, whoever asks; `None` if it does not exist.
    async fn channel(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<Option<Channel>, StoreError>;

    /// The positions of some channels, in any order, without channels that do not exist. The caller passes at most 500 at
    /// once.
    async fn positions(&self, tenant: &TenantSlug, channels: &[ChannelId]) -> Result<Vec<Position>, StoreError>;

    /// A channel as the viewer sees it; `None` if the channel does not exist or the viewer is not in it.
    async fn channel_summary(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        viewer: &UserId,
    ) -> Result<Option<ChannelSummary>, StoreError>;

    /// The channels that the viewer is in, by id, starting after a given id.
    async fn channel_summaries(
        &self,
        tenant: &TenantSlug,
        viewer: &UserId,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<ChannelSummary>, StoreError>;

    /// A channel's members by user id, starting after a given id.
    async fn channel_members(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<ChannelMember>, StoreError>;

    /// Those of some pairs whose user is in the channel, in any order. The caller passes at most 500 at once.
    async fn members_among(
        &self,
        tenant: &TenantSlug,
        pairs: &[(ChannelId, UserId)],
    ) -> Result<Vec<(ChannelId, UserId)>, StoreError>;

    /// The number of members of a channel; 0 if it does not exist.
    async fn member_count(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<u64, StoreError>;

    /// Adds a member of the tenant to a channel; one who is already in it keeps the role. `false`: there is no such member,
    /// or no such channel.
    async fn add_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
        role: Role,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Removes a member from a channel. `false`: the member was not in it.
    async fn remove_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
    ) -> Result<bool, StoreError>;
}
