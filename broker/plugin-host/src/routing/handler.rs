//! The handler of a message type, and a call of it.
//!
//! Ties a generation to the policy of one route. Neither looks up routes nor applies effects.

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

/// The handler of one message type in one tenant. An event takes it once and keeps it to the end, whatever is deployed
/// meanwhile.
#[derive(Debug)]
pub struct Handler {
    pub generation: Arc<Generation>,
    /// What the plugin declares for this type. For a watcher the broker makes one up: origin broker, ephemeral.
    pub spec: KindSpec,
    pub allowance: Arc<Allowance>,
    /// What happens to the event when the handler fails.
    pub policy: FailurePolicy,
    pub role: Role,
    /// The scope of the route; [`Scope::All`] if no route was set.
    pub scope: Scope,
    pub subject: Subject,
    /// The shadow that receives the same events, if there is one.
    pub shadow: Option<Arc<Handler>>,
    /// For a canary, the stable generation it is compared with.
    pub rival: Option<Arc<Generation>>,
    /// Whether it was already reported as worse than its rival.
    pub(crate) reported: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its effects are applied.
    Stable,
    /// Its effects are applied in some of the channels, and its results are compared with the stable generation's.
    Canary,
    /// Its effects are compared with the stable generation's and dropped.
    Shadow,
}

impl Handler {
    /// Calls the generation with an event, in an instance of the channel's tenant. Waits for a permit, and for a new
    /// instance if none is warm; the call itself takes at most [`Limits::wall`](crate::Limits::wall) after that. Host
    /// reads wait for `earlier`.
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

    /// Calls the generation with a stored message. `event` is the context in which its effects are read and applied.
    /// Otherwise the same as [`Handler::handle`].
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

    /// Writes to the guest log that the handler failed or that its effects could not be applied. Traps and timeouts are
    /// logged where they happen.
    pub fn note_failure(&self, channel: &ChannelKey, kind: &Kind, error: &CallError) {
        if let CallError::Failed(reason) = error {
            self.generation.author().write(Some(&channel.tenant), Level::Error, format!("`{kind}` failed: {reason}"));
        }
    }

    /// Calls the generation and reports a series of failures, or a canary that does worse.
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

    /// Reports once that a canary does worse than the stable generation.
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
