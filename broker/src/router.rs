//! Routes an event to its handler and its effects.
//!
//! The router knows which handler takes a type, and what a handler's failure means for the sender. It knows no message
//! type by name, and does not check membership of a channel: its callers have.

use std::sync::Arc;

use tokio::time::Instant;

use crate::effects::{Applied, ApplyError, Carried, Cause, Effects, Flush, Queued, unknown_message};
use crate::metrics::{EVENTS, Value};
use crate::model::catalogue::{FailurePolicy, Origin};
use crate::model::{ChannelKey, Clock, Event, Kind, MessageId, SessionId, User};
use crate::plugin::{CallError, Earlier, Handler, Registry};
use crate::protocol::{ErrorCode, EventFrame, Refusal};

#[derive(Debug)]
pub struct Router {
    registry: Arc<Registry>,
    effects: Effects,
    clock: Clock,
}

/// The state of a dispatched frame.
#[derive(Debug)]
pub enum Dispatched {
    Now(Routed),
    /// Its effects are queued for storing. That happens whether or not anybody waits, and the session's next frame may
    /// be dispatched.
    Later(Later),
}

/// A frame whose effects are queued.
#[derive(Debug)]
pub struct Later {
    queued: Queued,
    call: Call,
}

/// The outcome of a frame.
#[derive(Debug)]
pub enum Routed {
    Applied(Applied),
    Refused(Refusal),
    /// The handler failed or had no capacity, and its failure policy is open: the frame is dropped. The sender is told
    /// only if it asked for an answer.
    Dropped(Refusal),
}

impl Dispatched {
    /// Waits for the outcome.
    pub async fn routed(self) -> Routed {
        match self {
            Dispatched::Now(routed) => routed,
            Dispatched::Later(later) => later.routed().await,
        }
    }
}

impl Later {
    /// The same session's next reads in the channel wait for this.
    pub fn earlier(&self) -> &Earlier {
        &self.queued.earlier
    }

    /// When the sender must have been told something.
    pub fn by(&self) -> Instant {
        self.queued.by()
    }

    /// Registers a receiver that the committer calls with the outcome. It must not block, and may return a buffer to
    /// flush once the answers of the same batch are gathered.
    pub fn then(self, receiver: impl FnOnce(Routed) -> Option<Arc<dyn Flush>> + Send + 'static) {
        let Self { queued, call } = self;
        queued.then(move |result| receiver(call.routed(result)));
    }

    /// Waits for the outcome.
    pub async fn routed(self) -> Routed {
        let Self { queued, call } = self;
        call.routed(Carried::Queued(queued).applied().await)
    }
}

impl Router {
    pub fn new(registry: Arc<Registry>, effects: Effects, clock: Clock) -> Self {
        Self { registry, effects, clock }
    }

    /// Calls the handler of a client's frame and applies its effects. The generation active now handles the event to
    /// the end. The handler's reads wait for `earlier`: effects that the same session asked for before in this channel
    /// and that are still on their way.
    pub async fn dispatch(
        &self,
        channel: &ChannelKey,
        user: &User,
        session: Option<SessionId>,
        frame: EventFrame,
        earlier: Option<&Earlier>,
    ) -> Dispatched {
        let Some(handler) = self.registry.handler(channel, &frame.kind) else {
            EVENTS.add(["unknown", "unknown"], 1);
            return Dispatched::Now(Routed::Refused(Refusal::new(
                ErrorCode::UnknownType,
                "there is no handler for this type",
            )));
        };
        if handler.spec.origin != Origin::Client {
            let refusal = Refusal::new(ErrorCode::Denied, "only the broker can send this type");
            return Dispatched::Now(Routed::Refused(refusal));
        }
        let event = Event::now(frame.kind, frame.payload, channel.channel, user.clone(), &self.clock);
        let event = Event { session, client_id: frame.id, ..event };
        self.run(handler, channel, event, earlier).await
    }

    /// Calls the handler of a broker kind, if there is one, about something that happened to a session.
    pub async fn notify(&self, channel: &ChannelKey, kind: &Kind, user: &User, session: SessionId) {
        let handler = match self.registry.handler(channel, kind) {
            Some(handler) if handler.spec.origin == Origin::Broker => handler,
            _ => return,
        };
        let event = Event::now(kind.clone(), "{}".to_owned(), channel.channel, user.clone(), &self.clock);
        let event = Event { session: Some(session), ..event };
        // There is no sender to tell. Failures are in the log and the metrics.
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

/// A handler call, kept for logging and metrics at its end.
#[derive(Debug)]
struct Call {
    handler: Arc<Handler>,
    channel: ChannelKey,
    kind: Kind,
    event: MessageId,
    began: Instant,
}

impl Call {
    /// Logs and counts the outcome, and decides what the sender is told.
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
        EVENTS.add([Value::from(self.kind.to_string()), Value::from(outcome)], 1);
        match result {
            Ok(applied) => Routed::Applied(applied),
            Err((refusal, true)) if self.handler.policy == FailurePolicy::Open => Routed::Dropped(refusal),
            Err((refusal, _)) => Routed::Refused(refusal),
        }
    }
}

/// What the sender is told of a failed call, and whether the failure policy applies to it.
fn refusal(error: CallError) -> (Refusal, bool) {
    match error {
        CallError::Invalid(text) => (Refusal::new(ErrorCode::BadRequest, text), false),
        CallError::Denied(text) => (Refusal::new(ErrorCode::Rejected, text), false),
        CallError::UnknownMessage => (unknown_message(), false),
        CallError::Retry(after) => {
            let refusal = Refusal::new(ErrorCode::Overloaded, "the handler cannot handle this now; try again later");
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
