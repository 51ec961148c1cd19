//! Turns the effects of one event into a commit and queues it together with what has to be published.
//!
//! The effects of an event are applied all or none: they become one [`Commit`], so the store decides about all of them
//! in one transaction. Effects without a durable part are published directly, or behind the same session's earlier
//! effects if those are still on their way.
//!
//! Nothing here stores, publishes or calls a guest by itself; it asks through the given closure and hands the result to
//! the committer.
//!
//! Invariant: once [`Effects::carry_out`] has queued a commit, it is stored and published whether or not the caller
//! stays. Commits queue in the order of the calls.
//!
//! A handler whose keys changed between its reads and its commit is asked again, up to [`FURTHER_TRIES`] times. Start
//! with [`Effects::carry_out`].

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::committer::{Committer, Flush, Pending};
use super::publish::{AfterCommit, Publication, Publisher};
use super::refusals::unknown_message;
use crate::model::json::Tree;
use crate::model::{ChannelKey, Clock, Effect, Event, KvWrite, MessageId, PluginName, RequestKey};
use crate::plugin::{CallError, Earlier};
use crate::protocol::{ErrorCode, Refusal};
use crate::relay::Relay;
use crate::store::{Commit, Outcome, Receipt, Store};

/// The content of the sender's ack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Where the durable part was stored; `None` if there was none.
    pub receipt: Option<Receipt>,
    /// Whether the same request was applied earlier, and nothing was done this time.
    pub duplicate: bool,
}

/// The progress of an event's effects.
#[derive(Debug)]
pub enum Carried {
    Applied(Applied),
    /// Queued for storing, which happens whether or not anybody waits.
    Queued(Queued),
}

/// Effects queued for storing.
#[derive(Debug)]
pub struct Queued {
    pending: Pending,
    /// The same session's next reads in the channel wait for this.
    pub earlier: Earlier,
}

impl Carried {
    /// Waits until the effects are applied and published on this node.
    ///
    /// An error means that none of them was applied, or that the outcome is unknown.
    pub async fn applied(self) -> Result<Applied, ApplyError> {
        match self {
            Carried::Applied(applied) => Ok(applied),
            // Effects with a version check are awaited before they get here, because a conflict means asking the
            // handler again.
            Carried::Queued(Queued { pending, .. }) => done(pending.outcome().await?),
        }
    }
}

impl Queued {
    /// When the sender must have been told something.
    pub fn by(&self) -> Instant {
        self.pending.by()
    }

    /// Registers the receiver of the outcome, as [`Pending::then`] does.
    pub fn then(self, receiver: impl FnOnce(Result<Applied, ApplyError>) -> Option<Arc<dyn Flush>> + Send + 'static) {
        self.pending.then(Box::new(move |answer| receiver(answer.map_err(ApplyError::from).and_then(done))));
    }
}

/// The outcome of effects without a version check, for which a conflict cannot happen.
fn done(outcome: Outcome<Receipt>) -> Result<Applied, ApplyError> {
    applied(outcome)?.ok_or_else(|| contended().into())
}

/// What asked for the effects.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    plugin: &'a PluginName,
    depth: u8,
}

impl<'a> Cause<'a> {
    /// The handler of an event.
    pub fn event(plugin: &'a PluginName) -> Self {
        Self { plugin, depth: 0 }
    }

    /// A plugin called with a stored message. The event's id is the message's.
    pub fn stored(plugin: &'a PluginName, message_depth: u8) -> Self {
        Self { plugin, depth: message_depth + 1 }
    }

    /// The idempotency key of the effects. A client chooses one for its event; a post-commit call has one made of
    /// message and plugin.
    fn request(self, event: &Event) -> Option<RequestKey> {
        match self.depth {
            0 => event.client_id.clone().map(RequestKey::from),
            _ => Some(RequestKey::stored(event.id, self.plugin)),
        }
    }
}

/// Why none of an event's effects was applied.
#[derive(Debug)]
pub enum ApplyError {
    /// The handler returned no effects, or none that can be applied.
    Call(CallError),
    /// The broker refused, whatever the handler is.
    Refused(Refusal),
}

impl From<Refusal> for ApplyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Further attempts after the handler's keys changed between its reads and its commit.
const FURTHER_TRIES: u32 = 3;

/// Half of the longest pause before the second attempt. Every further attempt doubles it.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone)]
pub struct Effects {
    committer: Arc<Committer<Publication>>,
    clock: Clock,
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effects").finish_non_exhaustive()
    }
}

impl Effects {
    pub fn new(store: Arc<dyn Store>, relay: Arc<Relay>, after_commit: AfterCommit, clock: Clock) -> Self {
        let publisher = Publisher { relay: Arc::clone(&relay), after_commit };
        let committer = Committer::publishing(store, Arc::new(publisher));
        let batches = Arc::downgrade(&committer);
        relay.know_batches(move |channel| batches.upgrade()?.batch_of(channel));
        Self { committer, clock }
    }

    /// Asks the handler for the effects of an event and applies all of them, or none. On return they are queued at the
    /// committer in the order of the calls, behind `earlier`; the caller may start the session's next event.
    ///
    /// If another event has changed a key that these effects check, the handler is asked again and reads the new value.
    /// Effects that may have to be asked for again, or that change messages, are awaited here.
    ///
    /// On an error nothing was stored or sent.
    pub async fn carry_out<F>(
        &self,
        channel: &ChannelKey,
        event: &Event,
        cause: Cause<'_>,
        earlier: Option<&Earlier>,
        ask: impl Fn() -> F,
    ) -> Result<Carried, ApplyError>
    where
        F: Future<Output = Result<Vec<Effect>, CallError>>,
    {
        for further in 0..=FURTHER_TRIES {
            if further > 0 {
                tokio::time::sleep(self.pause(further)).await;
            }
            let asked = match ask().await {
                Ok(asked) => asked,
                Err(error @ CallError::Denied(_)) => return self.first_answer(channel, event, cause, error).await,
                Err(error) => return Err(ApplyError::Call(error)),
            };
            if let Some(carried) = self.apply(channel, event, cause, earlier, asked).await? {
                return Ok(carried);
            }
            let plugin = cause.plugin.to_string();
            crate::metrics::KV_CONFLICTS.add([plugin], 1);
        }
        Err(contended().into())
    }

    /// A random pause before another attempt: events that collided once would otherwise collide again.
    fn pause(&self, further: u32) -> Duration {
        let share = u32::from(u8::from_le_bytes(self.clock.random()));
        PAUSE * (share << further) / 256
    }

    /// A repeated event may be denied because of what its first attempt changed. In that case the sender gets the first
    /// answer.
    async fn first_answer(
        &self,
        channel: &ChannelKey,
        event: &Event,
        cause: Cause<'_>,
        error: CallError,
    ) -> Result<Carried, ApplyError> {
        if cause.request(event).is_some() {
            let nothing = self.commit_of(channel, event, cause);
            let publication = Publication::of(event, cause.depth);
            if let Outcome::Duplicate(first) =
                self.committer.queue(&channel.tenant, nothing, publication)?.outcome().await?
            {
                return Ok(Carried::Applied(Applied { receipt: Some(first), duplicate: true }));
            }
        }
        Err(ApplyError::Call(error))
    }

    fn commit_of(&self, channel: &ChannelKey, event: &Event, cause: Cause<'_>) -> Commit {
        Commit {
            channel: channel.channel,
            sender: event.user.clone(),
            request: cause.request(event).map(|key| (key, digest(event))),
            drafts: Vec::new(),
            reads: Vec::new(),
            amendments: Vec::new(),
            kv: None,
            at: self.clock.now(),
        }
    }

    /// Queues the effects. `None`: a key's version did not match, and nothing was applied.
    async fn apply(
        &self,
        channel: &ChannelKey,
        event: &Event,
        cause: Cause<'_>,
        earlier: Option<&Earlier>,
        effects: Vec<Effect>,
    ) -> Result<Option<Carried>, ApplyError> {
        let mut commit = self.commit_of(channel, event, cause);
        let mut publication = Publication::of(event, cause.depth);
        let mut kv = Vec::new();
        for effect in effects {
            match effect {
                Effect::Store(draft) => commit.drafts.push((MessageId(self.clock.uuid()), draft)),
                Effect::Amend(amendment) => commit.amendments.push(amendment),
                Effect::MarkRead(mark) => commit.reads.push(mark),
                Effect::KvPut(write) => kv.push(write),
                Effect::Broadcast(signal) => publication.signals.push(signal),
            }
        }
        if !kv.is_empty() {
            commit.kv = Some((cause.plugin.clone(), kv));
        }
        if !is_durable(&commit) {
            // These must not overtake the session's own earlier effects. Nothing else delays them.
            match earlier.is_some_and(|earlier| !earlier.is_settled()) {
                true => self.committer.publish_in_order(channel, publication)?,
                false => self.committer.publish_now(channel, publication),
            }
            return Ok(Some(Carried::Applied(Applied { receipt: None, duplicate: false })));
        }
        // Awaited before the session's next event: a version conflict means asking the handler again.
        let is_barrier = commit.kv.is_some() || !commit.amendments.is_empty();
        let (earlier, settling) = Earlier::new();
        publication.settling = Some(settling);
        let pending = self.committer.queue(&channel.tenant, commit, publication)?;
        if is_barrier {
            return Ok(applied(pending.outcome().await?)?.map(Carried::Applied));
        }
        Ok(Some(Carried::Queued(Queued { pending, earlier })))
    }
}

/// What the sender is told of an outcome. `None`: a key's version did not match.
fn applied(outcome: Outcome<Receipt>) -> Result<Option<Applied>, ApplyError> {
    match outcome {
        Outcome::Done(receipt) => Ok(Some(Applied { receipt: Some(receipt), duplicate: false })),
        Outcome::Duplicate(first) => Ok(Some(Applied { receipt: Some(first), duplicate: true })),
        Outcome::IdConflict => {
            let message = "this id was already used for a different frame";
            Err(Refusal::new(ErrorCode::IdConflict, message).into())
        }
        Outcome::UnknownMessage => Err(unknown_message().into()),
        Outcome::KvConflict => Ok(None),
        Outcome::KvFull => Err(ApplyError::Call(CallError::Failed(full()))),
        Outcome::UnknownChannel => Err(Refusal::unknown_channel().into()),
    }
}

fn contended() -> Refusal {
    let refusal = Refusal::new(ErrorCode::Overloaded, "other events keep changing the same keys; try again");
    Refusal { retry_after_ms: Some(250), ..refusal }
}

fn is_durable(commit: &Commit) -> bool {
    !(commit.drafts.is_empty() && commit.reads.is_empty() && commit.amendments.is_empty()) || commit.kv.is_some()
}

fn full() -> String {
    format!(
        "its keys and values would exceed {} keys or {} MiB in this tenant",
        KvWrite::MAX_KEYS,
        KvWrite::MAX_BYTES >> 20
    )
}

/// Identifies a request: the channel, the type, and the frame without its envelope. Whitespace and the order of object
/// members do not count, so a repeat through another path or client is the same request.
fn digest(event: &Event) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(event.channel.0.as_bytes());
    hasher.update(event.kind.as_str().as_bytes());
    match Tree::read(&event.payload) {
        Ok(Tree::Object(mut said)) => {
            for envelope in ["type", "id", "channel"] {
                said.remove(envelope);
            }
            hasher.update([0]);
            Tree::Object(said).write(&mut |bytes| hasher.update(bytes));
        }
        // Anything but an object is compared byte for byte.
        _ => hasher.update(event.payload.as_bytes()),
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelId, Timestamp, User};

    fn event(kind: &str, channel: u128, payload: &str) -> Event {
        Event {
            kind: kind.parse().unwrap(),
            payload: payload.to_owned(),
            channel: ChannelId(uuid::Uuid::from_u128(channel)),
            user: User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() },
            session: None,
            client_id: None,
            id: MessageId(uuid::Uuid::nil()),
            at: Timestamp(0),
        }
    }

    #[test]
    fn a_request_is_what_it_says_and_not_how_it_is_written() {
        let first =
            digest(&event("chat.message", 1, r#"{"type":"chat.message","id":"c1","message":"hi","x":{"a":1,"b":2}}"#));
        let again = r#"{ "x": {"b":2, "a":1}, "message": "h\u0069", "id": "c1", "channel": "…" }"#;
        assert_eq!(digest(&event("chat.message", 1, again)), first);
        for (kind, channel, payload) in [
            ("chat.message", 1, r#"{"message":"ho","x":{"a":1,"b":2}}"#),
            ("chat.message", 1, r#"{"message":"hi"}"#),
            ("chat.message", 2, again),
            ("poll", 1, again),
            // As doubles these equal the number above.
            ("chat.message", 1, r#"{"message":"hi","x":{"a":1,"b":2.0}}"#),
        ] {
            assert_ne!(digest(&event(kind, channel, payload)), first, "{kind} {channel} {payload}");
        }
    }
}
