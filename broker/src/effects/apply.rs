//! Makes one commit of what a handler asked for, and queues it with what is to be told of it.

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

/// What the sender's ack says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Where the durable part stands; none when there was none.
    pub receipt: Option<Receipt>,
    /// Whether the same request was applied before, and this time nothing was done.
    pub duplicate: bool,
}

/// Effects that are on their way.
#[derive(Debug)]
pub enum Carried {
    /// They are applied.
    Applied(Applied),
    /// They are queued to be stored, and will be whether or not somebody waits for it.
    Queued(Queued),
}

/// Effects that are queued.
#[derive(Debug)]
pub struct Queued {
    pending: Pending,
    /// What the same session's next reads in the channel wait for.
    pub earlier: Earlier,
}

impl Carried {
    /// Waits until they are applied, and everyone here who is to hear of it has been sent it or will be.
    ///
    /// # Errors
    /// Why nothing of them was applied, or that it is not known.
    pub async fn applied(self) -> Result<Applied, ApplyError> {
        match self {
            Carried::Applied(applied) => Ok(applied),
            // What counts on a key was waited for at once, so that it could be asked for again.
            Carried::Queued(Queued { pending, .. }) => done(pending.outcome().await?),
        }
    }
}

impl Queued {
    /// Until when whoever asked is to be told something.
    pub fn by(&self) -> Instant {
        self.pending.by()
    }

    /// Has taken what became of them, as [`Pending::then`] does.
    pub fn then(self, receiver: impl FnOnce(Result<Applied, ApplyError>) -> Option<Arc<dyn Flush>> + Send + 'static) {
        self.pending.then(Box::new(move |answer| receiver(answer.map_err(ApplyError::from).and_then(done))));
    }
}

/// What an outcome means for effects that count on no key.
fn done(outcome: Outcome<Receipt>) -> Result<Applied, ApplyError> {
    applied(outcome)?.ok_or_else(|| contended().into())
}

/// Who asks for effects.
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

    /// A plugin that was told of a stored message. The event has the message's id.
    pub fn stored(plugin: &'a PluginName, message_depth: u8) -> Self {
        Self { plugin, depth: message_depth + 1 }
    }

    /// What the effects are applied under once and not again.
    fn request(self, event: &Event) -> Option<RequestKey> {
        match self.depth {
            0 => event.client_id.clone().map(RequestKey::from),
            _ => Some(RequestKey::stored(event.id, self.plugin)),
        }
    }
}

/// Why nothing of an event was applied.
#[derive(Debug)]
pub enum ApplyError {
    /// Its handler gave no effects, or none that can be applied.
    Call(CallError),
    /// The broker refuses, whatever the handler is.
    Refused(Refusal),
}

impl From<Refusal> for ApplyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// How often a handler is asked again when another event changed its keys between its look at them and its commit.
const FURTHER_TRIES: u32 = 3;

/// Half of the longest wait before the first further try. Each longest wait is twice the one before.
const PAUSE: Duration = Duration::from_millis(5);

/// From effects to the store and the relay.
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
    /// Effects that end in this store and this relay.
    pub fn new(store: Arc<dyn Store>, relay: Arc<Relay>, after_commit: AfterCommit, clock: Clock) -> Self {
        let publisher = Publisher { relay: Arc::clone(&relay), after_commit };
        let committer = Committer::publishing(store, Arc::new(publisher));
        let batches = Arc::downgrade(&committer);
        relay.know_batches(move |channel| batches.upgrade()?.batch_of(channel));
        Self { committer, clock }
    }

    /// Asks for the effects of an event and has all of them applied, or none. When this returns, they are queued at the
    /// committer in the order of the calls, behind what is `earlier`; the caller may begin with the session's next event.
    ///
    /// When another event has changed a key that these effects count on, it asks again: the handler then reads what stands
    /// there now. Effects that may have to be asked for again, or that change messages, are waited for here.
    ///
    /// # Errors
    /// What the handler's call ended with, or the broker's own refusal. Nothing is kept or sent then.
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
            metrics::counter!("switchboard_kv_conflicts_total", "plugin" => plugin).increment(1);
        }
        Err(contended().into())
    }

    /// How long to wait before a further try: a time of its own for each event, or those that met once would meet again.
    fn pause(&self, further: u32) -> Duration {
        let share = u32::from(u8::from_le_bytes(self.clock.random()));
        PAUSE * (share << further) / 256
    }

    /// A handler may refuse an event because of what the first try of it has changed. Its sender gets the first answer then.
    async fn first_answer(
        &self,
        channel: &ChannelKey,
        event: &Event,
        cause: Cause<'_>,
        error: CallError,
    ) -> Result<Carried, ApplyError> {
        if cause.request(event).is_some() {
            let nothing = self.commit_of(channel, event, cause);
            let story = Publication::of(event, cause.depth);
            if let Outcome::Duplicate(first) = self.committer.queue(&channel.tenant, nothing, story)?.outcome().await? {
                return Ok(Carried::Applied(Applied { receipt: Some(first), duplicate: true }));
            }
        }
        Err(ApplyError::Call(error))
    }

    /// A commit of nothing yet.
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

    /// `None`: a key has another version than was expected, and nothing is applied.
    async fn apply(
        &self,
        channel: &ChannelKey,
        event: &Event,
        cause: Cause<'_>,
        earlier: Option<&Earlier>,
        effects: Vec<Effect>,
    ) -> Result<Option<Carried>, ApplyError> {
        let mut commit = self.commit_of(channel, event, cause);
        let mut story = Publication::of(event, cause.depth);
        let mut kv = Vec::new();
        for effect in effects {
            match effect {
                Effect::Store(draft) => commit.drafts.push((MessageId(self.clock.uuid()), draft)),
                Effect::Amend(amendment) => commit.amendments.push(amendment),
                Effect::MarkRead(mark) => commit.reads.push(mark),
                Effect::KvPut(write) => kv.push(write),
                Effect::Broadcast(signal) => story.signals.push(signal),
            }
        }
        if !kv.is_empty() {
            commit.kv = Some((cause.plugin.clone(), kv));
        }
        if !is_durable(&commit) {
            // They must not overtake what the session sent before. Nobody else's are waited for.
            match earlier.is_some_and(|earlier| !earlier.is_settled()) {
                true => self.committer.publish_in_order(channel, story)?,
                false => self.committer.publish_now(channel, story),
            }
            return Ok(Some(Carried::Applied(Applied { receipt: None, duplicate: false })));
        }
        let is_barrier = commit.kv.is_some() || !commit.amendments.is_empty();
        let (earlier, settling) = Earlier::new();
        story.settling = Some(settling);
        let pending = self.committer.queue(&channel.tenant, commit, story)?;
        if is_barrier {
            return Ok(applied(pending.outcome().await?)?.map(Carried::Applied));
        }
        Ok(Some(Carried::Queued(Queued { pending, earlier })))
    }
}

/// What an outcome means to whoever asked. `None`: a key has another version than was expected.
fn applied(outcome: Outcome<Receipt>) -> Result<Option<Applied>, ApplyError> {
    match outcome {
        Outcome::Done(receipt) => Ok(Some(Applied { receipt: Some(receipt), duplicate: false })),
        Outcome::Duplicate(first) => Ok(Some(Applied { receipt: Some(first), duplicate: true })),
        Outcome::IdConflict => {
            let message = "this id was used before for another frame";
            Err(Refusal::new(ErrorCode::IdConflict, message).into())
        }
        Outcome::UnknownMessage => Err(unknown_message().into()),
        Outcome::KvConflict => Ok(None),
        Outcome::KvFull => Err(ApplyError::Call(CallError::Failed(full()))),
        Outcome::UnknownChannel => Err(Refusal::unknown_channel().into()),
    }
}

fn contended() -> Refusal {
    let refusal = Refusal::new(ErrorCode::Overloaded, "others are changing the same at the same time; try again");
    Refusal { retry_after_ms: Some(250), ..refusal }
}

fn is_durable(commit: &Commit) -> bool {
    !(commit.drafts.is_empty() && commit.reads.is_empty() && commit.amendments.is_empty()) || commit.kv.is_some()
}

fn full() -> String {
    format!(
        "its keys and values would be more than {} keys or {} MiB in this tenant",
        KvWrite::MAX_KEYS,
        KvWrite::MAX_BYTES >> 20
    )
}

/// What an idempotency key stands for: the channel, the type, and what the frame says beside its envelope. Spaces and
/// the order of names do not count, so a repeat by another path or another client is the same request.
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
        // What is no frame is one request if its bytes are the same.
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
            // As doubles these are the number above.
            ("chat.message", 1, r#"{"message":"hi","x":{"a":1,"b":2.0}}"#),
        ] {
            assert_ne!(digest(&event(kind, channel, payload)), first, "{kind} {channel} {payload}");
        }
    }
}
