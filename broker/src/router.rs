//! From an event to its handler to its effects.
//!
//! The router knows which handler takes a type and what a failure means for the sender. It knows no message type by
//! name, and it does not decide who is in a channel: whoever calls has checked that.

use std::sync::Arc;

use tokio::time::Instant;

use crate::effects::{Applied, Cause, Effects, Undone, unknown_message};
use crate::model::catalogue::{FailurePolicy, Origin};
use crate::model::{ChannelKey, Clock, Event, Kind, MessageId, SessionId, User};
use crate::plugin::{CallError, Handler, Registry};
use crate::protocol::{ErrorCode, EventFrame, Refusal};

/// Finds handlers and runs them.
#[derive(Debug)]
pub struct Router {
    registry: Arc<Registry>,
    effects: Effects,
    clock: Clock,
}

/// What became of a frame.
#[derive(Debug)]
pub enum Routed {
    /// It was handled; this is for the ack.
    Applied(Applied),
    /// It was refused, and the sender is told.
    Refused(Refusal),
    /// It was ephemeral and its handler failed: it is dropped, and the sender is told only if it asked for an answer.
    Dropped(Refusal),
}

impl Router {
    /// A router over these handlers.
    pub fn new(registry: Arc<Registry>, effects: Effects, clock: Clock) -> Self {
        Self { registry, effects, clock }
    }

    /// Takes a client's frame to its handler and applies what the handler asks for. The generation that is active now
    /// handles it to the end.
    pub async fn dispatch(
        &self,
        channel: &ChannelKey,
        user: &User,
        session: Option<SessionId>,
        frame: EventFrame,
    ) -> Routed {
        let Some(handler) = self.registry.handler(channel, &frame.kind) else {
            metrics::counter!("switchboard_events_total", "kind" => "unknown", "result" => "unknown").increment(1);
            return Routed::Refused(Refusal::new(ErrorCode::UnknownType, "no handler takes this type"));
        };
        if handler.spec.origin != Origin::Client {
            return Routed::Refused(Refusal::new(ErrorCode::Denied, "this type is the broker's to send"));
        }
        let event = Event {
            kind: frame.kind,
            payload: frame.payload,
            channel: channel.channel,
            user: user.clone(),
            session,
            client_id: frame.id,
            id: MessageId(self.clock.uuid()),
            at: self.clock.now(),
        };
        match self.run(&handler, channel, &event).await {
            Ok(applied) => Routed::Applied(applied),
            Err((refusal, true)) if handler.policy == FailurePolicy::Open => Routed::Dropped(refusal),
            Err((refusal, _)) => Routed::Refused(refusal),
        }
    }

    /// Tells the handler of a kind that something happened to a session. Without a handler nothing follows.
    pub async fn notify(&self, channel: &ChannelKey, kind: &Kind, user: &User, session: SessionId) {
        let handler = match self.registry.handler(channel, kind) {
            Some(handler) if handler.spec.origin == Origin::Broker => handler,
            _ => return,
        };
        let event = Event {
            kind: kind.clone(),
            payload: "{}".to_owned(),
            channel: channel.channel,
            user: user.clone(),
            session: Some(session),
            client_id: None,
            id: MessageId(self.clock.uuid()),
            at: self.clock.now(),
        };
        // A notice has no sender to tell; what went wrong is in the log and in the metrics.
        let _ = self.run(&handler, channel, &event).await;
    }

    /// The error says whether the handler is at fault.
    async fn run(&self, handler: &Handler, channel: &ChannelKey, event: &Event) -> Result<Applied, (Refusal, bool)> {
        let generation = &handler.generation;
        let began = Instant::now();
        let ask = || handler.handle(channel, event);
        let cause = Cause::event(generation.plugin());
        let result = self.effects.carry_out(channel, event, cause, ask).await.map_err(|undone| match undone {
            Undone::Refused(refusal) => (refusal, false),
            Undone::Call(error) => {
                if error.is_fault() {
                    tracing::warn!(
                        plugin = generation.name(),
                        version = generation.version(),
                        digest = &generation.digest()[..12],
                        generation = generation.id(),
                        tenant = %channel.tenant,
                        kind = %event.kind,
                        event = %event.id,
                        %error,
                        "a handler failed"
                    );
                    handler.note_failure(channel, &event.kind, &error);
                }
                refusal(error)
            }
        });
        tracing::debug!(
            plugin = generation.name(),
            version = generation.version(),
            digest = &generation.digest()[..12],
            generation = generation.id(),
            tenant = %channel.tenant,
            kind = %event.kind,
            event = %event.id,
            took = ?began.elapsed(),
            "an event was handled"
        );
        let kind = event.kind.to_string();
        let outcome = result.as_ref().err().map_or("ok", |(refusal, _)| refusal.code.name());
        metrics::counter!("switchboard_events_total", "kind" => kind, "result" => outcome).increment(1);
        result
    }
}

fn refusal(error: CallError) -> (Refusal, bool) {
    match error {
        CallError::Invalid(text) => (Refusal::new(ErrorCode::BadRequest, text), false),
        CallError::Denied(text) => (Refusal::new(ErrorCode::Rejected, text), false),
        CallError::UnknownMessage => (unknown_message(), false),
        CallError::Retry(after) => {
            let refusal = Refusal::new(ErrorCode::Overloaded, "the handler asks to be tried again later");
            (Refusal { retry_after_ms: Some(after), ..refusal }, false)
        }
        CallError::TimedOut => (Refusal::new(ErrorCode::HandlerTimeout, "the handler did not answer in time"), true),
        CallError::Failed(_) | CallError::Trapped(_) => {
            (Refusal::new(ErrorCode::HandlerFailed, "the handler failed"), true)
        }
        CallError::Busy => {
            let refusal = Refusal::new(ErrorCode::Overloaded, "too many events are waiting; try again");
            (Refusal { retry_after_ms: Some(250), ..refusal }, true)
        }
    }
}
