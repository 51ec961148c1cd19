//! The handler of a message type, and a call of it.
//!
//! It ties a generation to the allowance of one route. It does not look up routes and it does not apply effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use crate::contract::earlier::Earlier;
use crate::error::CallError;
use crate::guest_log::Level;
use crate::limits::Allowance;
use crate::routing::canary;
use crate::routing::shadow::{self, Happened};
use crate::runtime::generation::{Called, Generation};
use crate::runtime::incident::Incident;
use switchboard_model::catalogue::{FailurePolicy, KindSpec, Scope, Subject};
use switchboard_model::{ChannelKey, Effect, Event, Kind, Message};

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
    /// Whether it was said already that it does worse than its rival.
    pub(crate) reported: AtomicBool,
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
    /// Gives the event to the generation, in an instance that belongs to the channel's tenant. Waits for the tenant's turn,
    /// and for an instance to start if none is warm; takes at most the time of [`crate::limits::Limits::wall`] after that. What it
    /// reads has in it what is `earlier`.
    pub async fn handle(
        &self,
        channel: &ChannelKey,
        event: &Event,
        earlier: Option<&Earlier>,
    ) -> Result<Vec<Effect>, CallError> {
        let recorder = &self.generation.shared().recorder;
        let answer = recorder.during(None, channel, event, None, self.call(channel, event, None, earlier)).await;
        self.shadow(channel, event, None, earlier, &answer);
        answer
    }

    /// Gives it a message that was stored. `event` is the context in which its effects are read and applied. Otherwise as
    /// [`Handler::handle`].
    pub async fn stored(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: &Message,
    ) -> Result<Vec<Effect>, CallError> {
        let (watcher, recorder) = (Some(self.generation.plugin()), &self.generation.shared().recorder);
        let call = self.call(channel, event, Some(message), None);
        let answer = recorder.during(watcher, channel, event, Some(message), call).await;
        self.shadow(channel, event, Some(message), None, &answer);
        answer
    }

    /// Writes into the plugin's log that what it asked for could not be done. A trap and a call that took too long are there
    /// already.
    pub fn note_failure(&self, channel: &ChannelKey, kind: &Kind, error: &CallError) {
        if let CallError::Failed(reason) = error {
            self.generation.author().write(Some(&channel.tenant), Level::Error, format!("`{kind}` failed: {reason}"));
        }
    }

    /// Calls it and notes how it did.
    async fn call(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        earlier: Option<&Earlier>,
    ) -> Result<Vec<Effect>, CallError> {
        let call = self.generation.call(channel, event, message, earlier, &self.allowance);
        let Called { answer, fails, now } = call.await;
        if fails && self.role != Role::Shadow {
            self.generation.shared().reporter.report(Incident::Circuit {
                tenant: channel.tenant.clone(),
                plugin: self.generation.plugin().clone(),
                generation: self.generation.id(),
                scope: self.scope.clone(),
                subject: self.subject.clone(),
                reason: answer.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            });
        }
        if let Some(rival) = &self.rival {
            self.compare(rival, now);
        }
        answer
    }

    /// Says once that it does worse than the stable generation, from as many calls on as [`canary`] wants.
    fn compare(&self, rival: &Generation, now: Instant) {
        if self.reported.load(Ordering::Relaxed) {
            return;
        }
        let worse = canary::worse(self.generation.recent().summary(now), rival.recent().summary(now));
        if let Some(reason) = worse
            && !self.reported.swap(true, Ordering::AcqRel)
        {
            self.generation.shared().reporter.report(Incident::Canary {
                plugin: self.generation.plugin().clone(),
                generation: self.generation.id(),
                scope: self.scope.clone(),
                subject: self.subject.clone(),
                reason,
            });
        }
    }

    fn shadow(
        &self,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        earlier: Option<&Earlier>,
        answer: &Result<Vec<Effect>, CallError>,
    ) {
        let Some(shadow) = &self.shadow else { return };
        let happened = Happened {
            channel: channel.clone(),
            event: event.clone(),
            message: message.cloned(),
            earlier: earlier.cloned(),
            stable: answer.clone(),
        };
        shadow::give(&shadow.generation, &shadow.allowance, happened);
    }
}
