//! Commits of the durable part of events: the only way to write into a channel.

use std::time::Duration;

use async_trait::async_trait;
use switchboard_model::{
    Amendment, ChannelId, Draft, Epoch, Kind, KvWrite, Message, MessageId, PluginName, ReadUpTo, RequestKey,
    TenantSlug, Timestamp, User,
};

use crate::StoreError;

/// The durable part of one event.
#[derive(Debug, Clone)]
pub struct Commit {
    pub channel: ChannelId,
    pub sender: User,
    /// The idempotency key, unique per tenant and sender, and a digest of the request. It is stored with the first draft,
    /// or by itself if there is no draft and the commit [has changes](Commit::has_changes). A commit of only read marks
    /// stores none, since a read mark that is set twice is the same mark; an empty commit only checks whether the key was
    /// used. A key is kept as long as its message or, if stored by itself, for at least [`Commit::REMEMBERED`].
    pub request: Option<(RequestKey, [u8; 32])>,
    /// Messages to store, each with its future id, in the order of their `seq`.
    pub drafts: Vec<(MessageId, Draft)>,
    /// Read marks of the sender. They move one cursor, so only the one that reaches furthest applies.
    pub reads: Vec<ReadUpTo>,
    /// Changes of messages of the channel, in order. A deleted message counts as missing.
    pub amendments: Vec<Amendment>,
    /// Changes of the plugin's keys, in order: of several changes of a key, the last one applies. Each expects the version
    /// from before the commit. The caller checks the limits of keys and values.
    pub kv: Option<(PluginName, Vec<KvWrite>)>,
    /// The time of the whole commit.
    pub at: Timestamp,
}

impl Commit {
    /// Minimum time for which a request without a message is remembered: longer than any client retries.
    pub const REMEMBERED: Duration = Duration::from_hours(7 * 24);

    /// Whether it changes existing keys or messages, in addition to what it adds.
    pub fn has_changes(&self) -> bool {
        !self.amendments.is_empty() || self.kv.as_ref().is_some_and(|(_, writes)| !writes.is_empty())
    }
}

/// The result of a [`Commit`]. Only `Done` has changed anything.
#[derive(Debug, Clone)]
pub enum Outcome<D = Committed> {
    /// The commit is durable.
    Done(D),
    /// The same request was committed before; this is the receipt from then.
    Duplicate(Receipt),
    /// The sender used this key before for a different request.
    IdConflict,
    /// A draft replies to, or a read mark names, a message that is not in the channel; or an amendment names one that is not
    /// in the channel or was deleted.
    UnknownMessage,
    /// A key does not have the expected version: another event has written it since it was read.
    KvConflict,
    /// The plugin's keys and values would exceed their limit.
    KvFull,
    /// The channel does not exist, or the sender is not (or no longer) in it.
    UnknownChannel,
}

/// The content of the sender's ack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The first message of the commit.
    pub message: Option<MessageId>,
    /// The epoch of the numbering of `seq`.
    pub epoch: Epoch,
    /// That message's `seq`, or the channel's last one if nothing was stored.
    pub seq: u64,
    pub created_at: Timestamp,
}

/// The durable result of a commit.
#[derive(Debug, Clone)]
pub struct Committed {
    pub receipt: Receipt,
    /// In ascending `seq`.
    pub messages: Vec<Message>,
    /// The mark that moved forward, if one did.
    pub reads: Vec<AppliedRead>,
}

/// A read mark that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRead {
    /// The `type` of the frame that notifies the channel.
    pub kind: Kind,
    /// Up to and including this message.
    pub message: MessageId,
    /// That message's `seq`.
    pub seq: u64,
    pub read_at: Timestamp,
}

/// Commits events.
#[async_trait]
pub trait CommitStore: Send + Sync + 'static {
    /// Applies the durable effects of several events in one transaction, and returns an outcome for each, in the given
    /// order. Each commit is checked by itself against the state before the batch. Its changes of keys and messages are
    /// checked against the state after the earlier commits of the batch, so of two that expect the same version, one is
    /// done. A commit is done as a whole, or it changes nothing and does not affect the others. `seq` is assigned here,
    /// without gaps in each channel and in the order of the batch. Once this returns `Done`, no crash loses the commit.
    ///
    /// No two commits of a batch may have the same sender and key.
    ///
    /// # Errors
    /// After [`StoreError::NoTenant`], [`StoreError::Contended`] and [`StoreError::Failed`], none of the batch is done.
    /// After [`StoreError::Unavailable`], none or all of it is done; a retry with the same keys tells which.
    async fn commit(&self, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError>;

    /// The number of batches of a tenant that the store can process at once, at least 1. Further batches would wait inside
    /// the store, where no more commits can join them.
    fn batches_at_once(&self) -> usize;
}
