//! The handler of a message type, and a call of it.
//!
//! It ties a generation to the terms of one route. It does not look up routes and it does not apply effects.

use std::sync::Arc;

use super::{Allowance, CallError, Generation};
use crate::model::catalogue::{FailurePolicy, KindSpec, Scope, Subject};
use crate::model::{ChannelKey, Effect, Event, Message};

/// The handler of one message type for one tenant. An event takes it once and keeps it to its end, whatever is activated
/// meanwhile.
#[derive(Debug)]
pub struct Handler {
    /// The version that runs.
    pub generation: Arc<Generation>,
    /// What it says of this type. A plugin that watches a kind gets what the broker says, and an ephemeral place in it.
    pub spec: KindSpec,
    /// What it may do and use in this tenant.
    pub allowance: Arc<Allowance>,
    /// What follows from its failure.
    pub policy: FailurePolicy,
    /// In which part it runs.
    pub role: Role,
    /// For whom its route was decided; all, when nothing was decided.
    pub scope: Scope,
    /// What its route is about.
    pub subject: Subject,
    /// The generation that is given the same events beside this one, if one is tried out like that.
    pub shadow: Option<Arc<Handler>>,
    /// The stable generation beside which this one is tried out, if it is.
    pub rival: Option<Arc<Generation>>,
}

/// The part of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It counts.
    Stable,
    /// It counts in some of the channels, and is watched.
    Canary,
    /// What it asks for is compared and thrown away.
    Shadow,
}

impl Handler {
    /// Gives the event to the generation, in an instance that belongs to the channel's tenant. Waits for the tenant's turn;
    /// takes at most the time of [`super::Limits::wall`] after that.
    pub async fn handle(&self, channel: &ChannelKey, event: &Event) -> Result<Vec<Effect>, CallError> {
        self.generation.call(channel, event, None, &self.allowance).await
    }

    /// Gives it a message that was stored. `event` is the context in which its effects are read and applied. Otherwise as
    /// [`Handler::handle`].
    pub async fn stored(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: &Message,
    ) -> Result<Vec<Effect>, CallError> {
        self.generation.call(channel, event, Some(message), &self.allowance).await
    }
}
