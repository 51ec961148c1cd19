//! Who is in a channel right now, over all nodes.
//!
//! A member is present while at least one of its sessions is. Presence is ephemeral: what a dead node left behind
//! ends by itself within [`LEASE`]. It sends no notices: it only says whether a session was a member's first or last.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::{ChannelKey, SessionId, User};

pub mod memory;
pub mod redis;

/// How long an entry outlives the node that made it. Nodes renew theirs three times within it.
pub const LEASE: Duration = Duration::from_secs(60);

/// Why presence could not be told. Chat goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("failed to reach presence: {0}")]
pub struct PresenceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Who is here.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Notes a session. `true`: the member was not present before.
    async fn enter(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError>;

    /// Forgets a session. `true`: the member is not present any more. A session that was not noted is `false`.
    async fn leave(&self, channel: &ChannelKey, user: &User, session: SessionId) -> Result<bool, PresenceError>;

    /// The members present, each once, by user id; at most `limit`.
    async fn present(&self, channel: &ChannelKey, limit: usize) -> Result<Vec<User>, PresenceError>;
}
