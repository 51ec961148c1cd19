//! Reads the messages of a channel. Commits write them.

use async_trait::async_trait;
use switchboard_model::{ChannelId, Message, MessageId, TenantSlug};

use crate::StoreError;

/// A part of a channel's history. Answers are always in ascending `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The newest messages.
    Latest,
    /// The newest messages with a smaller `seq` than this.
    Before(u64),
    /// The oldest messages with a larger `seq` than this.
    After(u64),
}

/// The messages of channels. Commits write them.
#[async_trait]
pub trait MessageStore: Send + Sync + 'static {
    /// A part of a channel's history: at most `limit` messages, in ascending `seq`, each with its readers.
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
}
