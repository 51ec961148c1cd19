//! What is durable: tenants, members, channels, messages and read marks.
//!
//! [`Store`] has two adapters, [`postgres`] (a schema a tenant) and [`sqlite`] (a file a tenant), held to the same
//! conformance suite. SQL stands below this module and nowhere else. The store knows nothing of frames, sockets or
//! handlers, and it never decides who may do what: it is told a tenant and answers from that tenant alone.

use std::time::Duration;

use async_trait::async_trait;

use switchboard_model::{
    Amendment, Channel, ChannelId, ChannelMember, Draft, Epoch, Kind, KvWrite, Message, MessageId, PluginName,
    Position, ReadUpTo, RequestKey, Role, Tenant, TenantSlug, Timestamp, User, UserId, Username,
};

pub mod postgres;
pub mod sqlite;

mod answer;
mod changes;
mod entries;
mod plugins;

pub use plugins::PluginStore;

/// How long a revoked family of refresh tokens is remembered past the end of the token that gave it away. Tokens of
/// the family that were issued later end later; none lives longer than this.
const REVOCATION_KEPT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long what a node said of itself is kept at least.
const REPORTS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the store gave no answer. Every variant is the operator's to mend; clients hear `unavailable` or `internal`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is shutting down, or did not answer within the bound. Trying later may help.
    #[error("failed to reach the database: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database was found away a moment ago and was not asked; that was said when it was found.
    #[error("failed to reach the database: it was away a moment ago")]
    Away,
    /// Somebody else held a lock for too long on what the call was to change. For a batch: on what one of its commits was
    /// to; the others may be done without it.
    #[error("failed to use the database: a row stayed locked")]
    Contended,
    /// The database refused a statement, or a row does not read as what was written.
    #[error("failed to use the database: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A schema could not be brought to the version this broker needs.
    #[error("failed to migrate {subject}: {source}")]
    Migrate {
        /// Whose schema.
        subject: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was there is not any more, or cannot be read. It is not made anew: that would pass for an empty history.
    #[error("failed to use {subject}: {place} {fault}; restore it from a backup")]
    Damaged {
        /// Whose data.
        subject: String,
        /// The file or the schema.
        place: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The tenant is not in the catalogue.
    #[error("failed to find tenant {0}")]
    NoTenant(TenantSlug),
}

impl StoreError {
    /// Whether the database is not there, now or for a moment: trying later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Away | Self::Contended)
    }
}

/// A member with what a log-in needs.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Who.
    pub user: User,
    /// An argon2 hash in PHC form; none for a member who can only use tokens.
    pub password_hash: Option<String>,
}

/// A channel to be made.
#[derive(Debug, Clone)]
pub struct NewChannel {
    /// Its id.
    pub id: ChannelId,
    /// Its name.
    pub name: String,
    /// Its first numbering.
    pub epoch: Epoch,
    /// Its first members. Each must be a member of the tenant.
    pub members: Vec<(UserId, Role)>,
    /// When.
    pub at: Timestamp,
}

/// A channel as one of its members sees it in a list.
#[derive(Debug, Clone)]
pub struct ChannelSummary {
    /// The channel.
    pub channel: Channel,
    /// The viewer's own rights in it.
    pub role: Role,
    /// How many members it has.
    pub member_count: u64,
    /// Messages of others after the viewer's read mark; counted up to [`ChannelSummary::MAX_UNREAD`].
    pub unread: u64,
    /// The newest message.
    pub last_message: Option<Message>,
}

impl ChannelSummary {
    /// Unread messages are counted up to here, so that a list costs the same however long a member was away.
    pub const MAX_UNREAD: u64 = 1_000;
}

/// Which part of a channel's history. Answers are always in ascending `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The newest messages.
    Latest,
    /// The newest messages with a smaller `seq` than this.
    Before(u64),
    /// The oldest messages with a larger `seq` than this.
    After(u64),
}

/// The durable part of one event.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Where.
    pub channel: ChannelId,
    /// Who.
    pub sender: User,
    /// The idempotency key, unique for (tenant, sender), and a digest of what was sent under it. It is kept with the first
    /// draft, or by itself when there is none and the commit [has changes](Commit::has_changes). One of nothing but read
    /// marks keeps none, since a read mark set twice is the same mark; one of nothing at all asks whether the key was used.
    /// A key that is kept with a draft is kept as long as the message, one that is kept by itself for
    /// [`Commit::REMEMBERED`] at least.
    pub request: Option<(RequestKey, [u8; 32])>,
    /// Messages to keep, each with the id it shall have, in the order of their `seq`.
    pub drafts: Vec<(MessageId, Draft)>,
    /// Read marks of the sender. They are one cursor, so of several the one that reaches furthest is applied.
    pub reads: Vec<ReadUpTo>,
    /// Changes of messages of the channel, in order. A message that was deleted is not there any more.
    pub amendments: Vec<Amendment>,
    /// Changes of keys of the plugin that asks, in order: of several of one key the last one stands. Each expects its version
    /// before the commit. The caller sees to the bounds of keys and values.
    pub kv: Option<(PluginName, Vec<KvWrite>)>,
    /// The time of all of it.
    pub at: Timestamp,
}

impl Commit {
    /// How long a request of which no message is kept is remembered, at least: longer than any client tries again.
    pub const REMEMBERED: Duration = Duration::from_hours(7 * 24);

    /// Whether it changes what is there already, keys or messages, beside what it adds.
    pub fn has_changes(&self) -> bool {
        !self.amendments.is_empty() || self.kv.as_ref().is_some_and(|(_, writes)| !writes.is_empty())
    }
}

/// What became of a [`Commit`]. All but `Done` have changed nothing.
#[derive(Debug, Clone)]
pub enum Outcome<D = Committed> {
    /// It is durable.
    Done(D),
    /// The same request was committed before; this is what it got then.
    Duplicate(Receipt),
    /// The sender used this key before for another request.
    IdConflict,
    /// A draft answers, or a read mark names, a message that is not in the channel; or an amendment one that is not, or that
    /// was deleted.
    UnknownMessage,
    /// A key does not have the version that was expected: somebody wrote it since it was read.
    KvConflict,
    /// The plugin's keys and values would take more room than they may.
    KvFull,
    /// The channel is not there, or the sender is not in it (any more).
    UnknownChannel,
}

/// What the sender's ack says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The first message of the commit.
    pub message: Option<MessageId>,
    /// The numbering of `seq`.
    pub epoch: Epoch,
    /// That message's number, or the channel's last one when nothing was stored.
    pub seq: u64,
    /// When it was committed.
    pub created_at: Timestamp,
}

/// What is now durable.
#[derive(Debug, Clone)]
pub struct Committed {
    /// For the ack.
    pub receipt: Receipt,
    /// In ascending `seq`.
    pub messages: Vec<Message>,
    /// The mark that moved forward, if one did.
    pub reads: Vec<AppliedRead>,
}

/// A read mark that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRead {
    /// The `type` of the frame that tells the others.
    pub kind: Kind,
    /// Up to and including this message.
    pub message: MessageId,
    /// That message's `seq`.
    pub seq: u64,
    /// When.
    pub read_at: Timestamp,
}

/// Durable state. Every call but the catalogue's names its tenant and touches nothing else; a tenant that is not in the
/// catalogue is [`StoreError::NoTenant`]. A call answers or fails within the adapter's bound, it never hangs.
#[async_trait]
pub trait Store: PluginStore {
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Makes a tenant with its schema. `None`: the slug is taken.
    async fn create_tenant(
        &self,
        slug: &TenantSlug,
        external_id: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<Tenant>, StoreError>;

    /// Finds a tenant, enabled or not.
    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError>;

    /// Finds a tenant by the id its tokens carry.
    async fn tenant_by_external_id(&self, id: &str) -> Result<Option<Tenant>, StoreError>;

    /// All tenants by slug.
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;

    /// Enables or disables a tenant. `false`: there is none of that name.
    async fn set_tenant_enabled(&self, slug: &TenantSlug, enabled: bool) -> Result<bool, StoreError>;

    /// Makes a member. `false`: the id or the username is taken.
    async fn create_member(
        &self,
        tenant: &TenantSlug,
        user: &User,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Finds a member by id.
    async fn member(&self, tenant: &TenantSlug, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Finds a member by name, for a log-in.
    async fn credentials(&self, tenant: &TenantSlug, username: &Username) -> Result<Option<Credentials>, StoreError>;

    /// Makes a channel. `false`: one of the first members is no member of the tenant.
    async fn create_channel(&self, tenant: &TenantSlug, new: &NewChannel) -> Result<bool, StoreError>;

    /// The viewer's rights in a channel; `None` when the channel is not there or the viewer is not in it.
    async fn role(&self, tenant: &TenantSlug, channel: ChannelId, viewer: &UserId) -> Result<Option<Role>, StoreError>;

    /// A channel, whoever asks. `None`: it is not there.
    async fn channel(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<Option<Channel>, StoreError>;

    /// Where the numbering of some channels stands, in any order; one that is not there is left out. The caller asks
    /// for at most 500 at once.
    async fn positions(&self, tenant: &TenantSlug, channels: &[ChannelId]) -> Result<Vec<Position>, StoreError>;

    /// A channel as the viewer sees it; `None` when the channel is not there or the viewer is not in it.
    async fn channel_summary(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        viewer: &UserId,
    ) -> Result<Option<ChannelSummary>, StoreError>;

    /// The channels the viewer is in, by id, those after a given id first.
    async fn channel_summaries(
        &self,
        tenant: &TenantSlug,
        viewer: &UserId,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<ChannelSummary>, StoreError>;

    /// A channel's members by user id, those after a given one first.
    async fn channel_members(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<ChannelMember>, StoreError>;

    /// Those of some pairs whose user is in the channel, in any order. The caller asks for at most 500 at once.
    async fn members_among(
        &self,
        tenant: &TenantSlug,
        seats: &[(ChannelId, UserId)],
    ) -> Result<Vec<(ChannelId, UserId)>, StoreError>;

    /// How many members a channel has; 0 when it is not there.
    async fn member_count(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<u64, StoreError>;

    /// Adds a member of the tenant to a channel; one who is in it keeps the role. `false`: there is no such member or
    /// no such channel.
    async fn add_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
        role: Role,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Takes a member out of a channel. `false`: was not in it.
    async fn remove_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
    ) -> Result<bool, StoreError>;

    /// Part of a channel's history, at most `limit` messages, in ascending `seq`, each with its readers.
    async fn messages(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError>;

    /// One message of a channel, with its readers.
    async fn message(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        id: MessageId,
    ) -> Result<Option<Message>, StoreError>;

    /// Applies the durable effects of several events in one transaction, and answers for each in the order given. Each
    /// commit is judged by itself, by what was in the store before the batch; its changes of keys and messages by what the
    /// commits before it in the batch leave, so that of two that expect the same version one is done. It is done as a
    /// whole, or it changes nothing and keeps no other from being done. `seq` is assigned here, gapless in each channel and in the order of
    /// the batch. When this returns `Done`, a crash of anything loses nothing.
    ///
    /// No two commits of a batch may have the same sender and key.
    ///
    /// # Errors
    /// None of the batch is done after [`StoreError::NoTenant`], [`StoreError::Contended`] and [`StoreError::Failed`]. After
    /// [`StoreError::Unavailable`] none of it is done, or all of it; asking again under the same keys tells.
    async fn commit(&self, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError>;

    /// How many batches of a tenant it can work on at once, from 1. More of them would wait within the store, where
    /// nothing can join them any more.
    fn batches_at_once(&self) -> usize;

    /// Uses up a refresh token, named by its `jti`. `false`: it was used before or its family is revoked; the family is
    /// then revoked for good, so a stolen token ends with the honest one. Rows past their `expires_at` may be forgotten.
    async fn spend_refresh(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        family: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}
