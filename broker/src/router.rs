//! From an event to its handler to its effects.
//!
//! The router knows which handler takes a type and what a failure means for the sender. It knows no message type by
//! name, and it does not decide who is in a channel: whoever calls has checked that.

use std::sync::Arc;

use tokio::time::Instant;

use crate::effects::{Applied, ApplyError, Carried, Cause, Effects, Flush, Queued, unknown_message};
use crate::model::catalogue::{FailurePolicy, Origin};
use crate::model::{ChannelKey, Clock, Event, Kind, MessageId, SessionId, User};
use crate::plugin::{CallError, Earlier, Handler, Registry};
use crate::protocol::{ErrorCode, EventFrame, Refusal};

/// Finds handlers and runs them.
#[derive(Debug)]
pub struct Router {
    registry: Arc<Registry>,
    effects: Effects,
    clock: Clock,
}

/// What becomes of a frame.
#[derive(Debug)]
pub enum Dispatched {
    /// It is known.
    Now(Routed),
    /// Its effects are queued to be stored, whoever waits for it, and the session's next frame may be dispatched.
    Later(Later),
}

/// A frame whose effects are queued.
#[derive(Debug)]
pub struct Later {
    queued: Queued,
    call: Call,
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

impl Dispatched {
    /// What became of the frame, when that is known.
    pub async fn routed(self) -> Routed {
        match self {
            Dispatched::Now(routed) => routed,
            Dispatched::Later(later) => later.routed().await,
        }
    }
}

impl Later {
    /// What the same session's next reads in the channel wait for.
    pub fn earlier(&self) -> &Earlier {
        &self.queued.earlier
    }

    /// Until when the sender is to be told something.
    pub fn by(&self) -> Instant {
        self.queued.by()
    }

    /// Has taken what became of the frame, by the committer as soon as it is known. It must not wait, and may return what is to
    /// be flushed when the answers that came together with it are taken, too.
    pub fn then(self, receiver: impl FnOnce(Routed) -> Option<Arc<dyn Flush>> + Send + 'static) {
        let Self { queued, call } = self;
        queued.then(move |result| receiver(call.routed(result)));
    }

    /// What became of the frame, when that is known.
    pub async fn routed(self) -> Routed {
        let Self { queued, call } = self;
        call.routed(Carried::Queued(queued).applied().await)
    }
}

impl Router {
    /// A router over these handlers.
    pub fn new(registry: Arc<Registry>, effects: Effects, clock: Clock) -> Self {
        Self { registry, effects, clock }
    }

    /// Takes a client's frame to its handler and has applied what the handler asks for. The generation that is active now
    /// handles it to the end. What the handler reads has in it what is `earlier`: what the same session sent before in the
    /// channel, and is on its way.
    pub async fn dispatch(
        &self,
        channel: &ChannelKey,
        user: &User,
        session: Option<SessionId>,
        frame: EventFrame,
        earlier: Option<&Earlier>,
    ) -> Dispatched {
        let Some(handler) = self.registry.handler(channel, &frame.kind) else {
            metrics::counter!("switchboard_events_total", "kind" => "unknown", "result" => "unknown").increment(1);
            return Dispatched::Now(Routed::Refused(Refusal::new(
                ErrorCode::UnknownType,
                "no handler takes this type",
            )));
        };
        if handler.spec.origin != Origin::Client {
            let refusal = Refusal::new(ErrorCode::Denied, "this type is the broker's to send");
            return Dispatched::Now(Routed::Refused(refusal));
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
        self.run(handler, channel, event, earlier).await
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
        let _ = self.run(handler, channel, event, None).await.routed().await;
    }

    async fn run(
        &self,
        handler: Arc<Handler>,
        channel: &ChannelKey,
        event: Event,
        earlier: Option<&Earlier>,
    ) -> Dispatched {
        let began = Instant::now();
        let ask = || handler.handle(channel, &event, earlier);
        let cause = Cause::event(handler.generation.plugin());
        let carried = self.effects.carry_out(channel, &event, cause, earlier, ask).await;
        let call = Call { channel: channel.clone(), kind: event.kind, event: event.id, began, handler };
        match carried {
            Ok(Carried::Queued(queued)) => Dispatched::Later(Later { queued, call }),
            Ok(Carried::Applied(applied)) => Dispatched::Now(call.routed(Ok(applied))),
            Err(undone) => Dispatched::Now(call.routed(Err(undone))),
        }
    }
}

/// A call of a handler, for what is said of it at its end.
#[derive(Debug)]
struct Call {
    handler: Arc<Handler>,
    channel: ChannelKey,
    kind: Kind,
    event: MessageId,
    began: Instant,
}

impl Call {
    /// Says how it went, and what its sender is to be told.
    fn routed(self, result: Result<Applied, ApplyError>) -> Routed {
        let generation = &self.handler.generation;
        let result = result.map_err(|undone| match undone {
            ApplyError::Refused(refusal) => (refusal, false),
            ApplyError::Call(error) => {
                if error.is_fault() {
                    tracing::warn!(
                        plugin = generation.name(),
                        version = generation.version(),
                        digest = &generation.digest()[..12],
                        generation = generation.id(),
                        tenant = %self.channel.tenant,
                        kind = %self.kind,
                        event = %self.event,
                        %error,
                        "a handler failed"
                    );
                    self.handler.note_failure(&self.channel, &self.kind, &error);
                }
                refusal(error)
            }
        });
        tracing::debug!(
            plugin = generation.name(),
            version = generation.version(),
            digest = &generation.digest()[..12],
            generation = generation.id(),
            tenant = %self.channel.tenant,
            kind = %self.kind,
            event = %self.event,
            took = ?self.began.elapsed(),
            "an event was handled"
        );
        let outcome = result.as_ref().err().map_or("ok", |(refusal, _)| refusal.code.name());
        metrics::counter!("switchboard_events_total", "kind" => self.kind.to_string(), "result" => outcome)
            .increment(1);
        match result {
            Ok(applied) => Routed::Applied(applied),
            Err((refusal, true)) if self.handler.policy == FailurePolicy::Open => Routed::Dropped(refusal),
            Err((refusal, _)) => Routed::Refused(refusal),
        }
    }
}

/// What the sender is told of a failed call, and whether the handler is at fault.
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
