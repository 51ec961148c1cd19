//! Presence: which members are in a channel right now, over all nodes.
//!
//! A member is present while at least one of its sessions is. Presence is ephemeral: what a dead node leaves behind
//! expires within [`LEASE`]. It sends no notices; it only reports whether a session was a member's first or last.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::{ChannelKey, SessionId, User, UserId};

pub mod memory;
pub mod redis;

/// How long an entry outlives its node. Nodes renew three times within this.
pub const LEASE: Duration = Duration::from_secs(60);

/// Why presence could not be read or changed. Chat works without it.
#[derive(Debug, thiserror::Error)]
#[error("failed to reach presence: {0}")]
pub struct PresenceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Adds a session. Returns whether the member was absent before.
    async fn enter(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError>;

    /// Removes a session. Returns whether the member is absent now; `false` for a session that was not recorded.
    async fn leave(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError>;

    /// The members present whose ids come after one, or all; without duplicates, sorted by user id, at most `limit`.
    async fn present(
        &self,
        channel: &ChannelKey,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<User>, PresenceError>;
}
