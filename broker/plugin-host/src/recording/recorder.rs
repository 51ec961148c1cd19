//! Captures live events and the host's answers to them for whoever asked to record.
//!
//! While nobody records, an event pays one atomic load. While somebody does, an event still never waits: what a
//! recording has no room for is dropped and counted. Whether a tenant's events may be recorded is decided elsewhere.

mod redaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub use self::redaction::Redaction;
use crate::contract::host_data::{HostData, Unavailable};
use crate::error::CallError;
use crate::recording::recorded::{Call, Read, Recorded, RecordedEntry, RecordedMessage};
use switchboard_model::{
    ChannelKey, Effect, Event, Kind, KvEntry, Message, MessageId, PluginName, TenantSlug, User, UserId,
};

/// Concurrent recordings on a node.
const RECORDINGS: usize = 8;

/// Events buffered for the reader of a recording.
const WAITING: usize = 32;

/// Bytes of answers kept for one event. An event with more is left out and counted as missed.
const MOST_ANSWERED: usize = 1 << 20;

tokio::task_local! {
    /// The host's answers to the current event so far. Set only while the event is being recorded.
    static HEARD: Arc<Heard>;
}

/// Selects the events to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub tenant: TenantSlug,
    pub kind: Kind,
    /// `None` records the kind's handler; otherwise, this plugin's calls with stored messages of the kind.
    pub watcher: Option<PluginName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to record: this node already runs {RECORDINGS} recordings, its maximum")]
pub struct TooMany;

/// The recordings under way on this node.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The length of `tapes`, so that an event needs no lock while there are none. `Relaxed` is enough: an event that
    /// races with the start or end of a recording may count as before or after it.
    running: AtomicUsize,
    tapes: Mutex<Vec<Tape>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Tape {
    number: u64,
    wanted: Wanted,
    takes: mpsc::Sender<Take>,
    missed: Arc<AtomicU64>,
}

/// A running recording. Dropping it ends it.
#[derive(Debug)]
pub struct Recording {
    number: u64,
    recorder: Arc<Recorder>,
    takes: mpsc::Receiver<Take>,
    missed: Arc<AtomicU64>,
}

/// A handled event.
#[derive(Debug, Clone)]
struct Take {
    channel: ChannelKey,
    event: Event,
    message: Option<Message>,
    answers: Vec<Answer>,
}

/// The host's answer to one call, unconverted: the event pays only for a clone, the reader for the JSON.
#[derive(Debug, Clone)]
enum Answer {
    Messages(Value, Result<Vec<Message>, Unavailable>),
    Message(Value, Result<Option<Message>, Unavailable>),
    Users(Call, Value, Result<Vec<User>, Unavailable>),
    Contains(Value, Result<bool, Unavailable>),
    Entry(Value, Result<Option<KvEntry>, Unavailable>),
    Entries(Value, Result<Vec<KvEntry>, Unavailable>),
}

#[derive(Debug, Default)]
struct Heard(Mutex<(Vec<Answer>, usize)>);

impl Recorder {
    pub fn record(self: &Arc<Self>, wanted: Wanted) -> Result<Recording, TooMany> {
        let mut tapes = self.tapes.lock();
        if tapes.len() >= RECORDINGS {
            return Err(TooMany);
        }
        let (sender, takes) = mpsc::channel(WAITING);
        let (number, missed) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(AtomicU64::new(0)));
        tapes.push(Tape { number, wanted, takes: sender, missed: Arc::clone(&missed) });
        self.running.store(tapes.len(), Ordering::Relaxed);
        Ok(Recording { number, recorder: Arc::clone(self), takes, missed })
    }

    /// Runs a call of a handler, or of a watcher, and captures it if somebody records it.
    pub(crate) async fn during(
        &self,
        watcher: Option<&PluginName>,
        channel: &ChannelKey,
        event: &Event,
        message: Option<&Message>,
        call: impl Future<Output = Result<Vec<Effect>, CallError>> + Send,
    ) -> Result<Vec<Effect>, CallError> {
        if self.running.load(Ordering::Relaxed) == 0 {
            return call.await;
        }
        let kind = message.map_or(&event.kind, |message| &message.kind);
        let wants = |tape: &Tape| {
            let wanted = &tape.wanted;
            wanted.tenant == channel.tenant && wanted.kind == *kind && wanted.watcher.as_ref() == watcher
        };
        if !self.tapes.lock().iter().any(wants) {
            return call.await;
        }
        let heard = Arc::new(Heard::default());
        let answer = HEARD.scope(Arc::clone(&heard), call).await;
        // The handler was never called.
        if matches!(answer, Err(CallError::Busy)) {
            return answer;
        }
        let answers = heard.take();
        let take = answers.map(|answers| Take {
            channel: channel.clone(),
            event: event.clone(),
            message: message.cloned(),
            answers,
        });
        for tape in self.tapes.lock().iter().filter(|tape| wants(tape)) {
            let taken = take.clone().is_some_and(|take| tape.takes.try_send(take).is_ok());
            if !taken {
                tape.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer
    }
}

/// Carries the current event's recording into a future that will run on another task.
pub(crate) fn along<T: Send + 'static>(job: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
    match HEARD.try_with(Arc::clone) {
        Ok(heard) => Box::pin(HEARD.scope(heard, job)),
        Err(_) => job,
    }
}

impl Recording {
    /// The next event. Waits for one; `None` only once the broker shuts down.
    pub async fn next(&mut self) -> Option<Recorded> {
        let Take { channel, event, message, answers } = self.takes.recv().await?;
        let mut recorded = Recorded::of(&channel, &event, message.as_ref());
        recorded.reads = answers.into_iter().map(Read::from).collect();
        Some(recorded)
    }

    /// Events this recording had no room for.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut tapes = self.recorder.tapes.lock();
        tapes.retain(|tape| tape.number != self.number);
        self.recorder.running.store(tapes.len(), Ordering::Relaxed);
    }
}

impl Heard {
    fn note(answer: impl FnOnce() -> Answer) {
        let _ = HEARD.try_with(|heard| {
            let answer = answer();
            let mut noted = heard.0.lock();
            noted.1 += answer.size();
            // Over the limit: free what was kept. The size keeps counting, so nothing is added again.
            if noted.1 <= MOST_ANSWERED { noted.0.push(answer) } else { noted.0.clear() }
        });
    }

    /// The answers, or `None` if they exceeded [`MOST_ANSWERED`].
    fn take(&self) -> Option<Vec<Answer>> {
        let mut noted = self.0.lock();
        (noted.1 <= MOST_ANSWERED).then(|| std::mem::take(&mut noted.0))
    }
}

impl Answer {
    /// A rough size in bytes.
    fn size(&self) -> usize {
        let message = |message: &Message| 256 + message.content.get().len() + message.attachments.get().len();
        let entry = |entry: &KvEntry| 64 + entry.key.len() + entry.value.len();
        match self {
            Answer::Messages(_, Ok(messages)) => messages.iter().map(message).sum(),
            Answer::Message(_, Ok(Some(found))) => message(found),
            Answer::Users(_, _, Ok(users)) => users.len() * 128,
            Answer::Entry(_, Ok(Some(found))) => entry(found),
            Answer::Entries(_, Ok(entries)) => entries.iter().map(entry).sum(),
            _ => 64,
        }
    }
}

impl From<Answer> for Read {
    fn from(answer: Answer) -> Self {
        let read = |call, arguments, answer: Result<Value, Unavailable>| Self { call, arguments, answer: answer.ok() };
        match answer {
            Answer::Messages(arguments, found) => read(
                Call::Recent,
                arguments,
                found.map(|messages| json!(messages.iter().map(RecordedMessage::from).collect::<Vec<_>>())),
            ),
            Answer::Message(arguments, found) => {
                read(Call::Message, arguments, found.map(|message| json!(message.as_ref().map(RecordedMessage::from))))
            }
            Answer::Users(call, arguments, found) => read(call, arguments, found.map(|users| json!(users))),
            Answer::Contains(arguments, found) => read(Call::Contains, arguments, found.map(|yes| json!(yes))),
            Answer::Entry(arguments, found) => {
                read(Call::KvGet, arguments, found.map(|entry| json!(entry.as_ref().map(RecordedEntry::from))))
            }
            Answer::Entries(arguments, found) => read(
                Call::KvPage,
                arguments,
                found.map(|entries| json!(entries.iter().map(RecordedEntry::from).collect::<Vec<_>>())),
            ),
        }
    }
}

/// Captures answers for the event being recorded, if any.
pub(crate) struct RecordedReads(pub(crate) Arc<dyn HostData>);

#[async_trait]
impl HostData for RecordedReads {
    async fn recent(&self, channel: &ChannelKey, before: Option<u64>, limit: u32) -> Result<Vec<Message>, Unavailable> {
        let found = self.0.recent(channel, before, limit).await;
        Heard::note(|| Answer::Messages(json!({ "before": before, "limit": limit }), found.clone()));
        found
    }

    async fn message(&self, channel: &ChannelKey, id: MessageId) -> Result<Option<Message>, Unavailable> {
        let found = self.0.message(channel, id).await;
        Heard::note(|| Answer::Message(json!({ "message_id": id }), found.clone()));
        found
    }

    async fn members(
        &self,
        channel: &ChannelKey,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<User>, Unavailable> {
        let found = self.0.members(channel, after, limit).await;
        Heard::note(|| Answer::Users(Call::Members, json!({ "after": after, "limit": limit }), found.clone()));
        found
    }

    async fn contains(&self, channel: &ChannelKey, user: &UserId) -> Result<bool, Unavailable> {
        let found = self.0.contains(channel, user).await;
        Heard::note(|| Answer::Contains(json!({ "user_id": user }), found));
        found
    }

    async fn online(&self, channel: &ChannelKey, limit: usize) -> Result<Vec<User>, Unavailable> {
        let found = self.0.online(channel, limit).await;
        Heard::note(|| Answer::Users(Call::Online, json!({}), found.clone()));
        found
    }

    async fn kv_get(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        key: &str,
    ) -> Result<Option<KvEntry>, Unavailable> {
        let found = self.0.kv_get(tenant, plugin, key).await;
        Heard::note(|| Answer::Entry(json!({ "key": key }), found.clone()));
        found
    }

    async fn kv_list(
        &self,
        tenant: &TenantSlug,
        plugin: &PluginName,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, Unavailable> {
        let found = self.0.kv_list(tenant, plugin, prefix, after, limit).await;
        Heard::note(|| Answer::Entries(json!({ "prefix": prefix, "after": after, "limit": limit }), found.clone()));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_model::{ChannelId, Timestamp};

    fn wanted() -> Wanted {
        Wanted { tenant: "acme".parse().unwrap(), kind: "poke".parse().unwrap(), watcher: None }
    }

    async fn handled(recorder: &Recorder, tenant: &str, size: usize) {
        let nil = uuid::Uuid::nil();
        let channel = ChannelKey { tenant: tenant.parse().unwrap(), channel: ChannelId(nil) };
        let user = User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() };
        let event = Event {
            kind: "poke".parse().unwrap(),
            payload: "{\"a\":1}".to_owned(),
            channel: channel.channel,
            user: user.clone(),
            session: None,
            client_id: None,
            id: MessageId(nil),
            at: Timestamp(5),
        };
        let call = async {
            // Stands in for a call that continues on another thread.
            let job = along(Box::pin(async move {
                let entry = KvEntry { key: "k".to_owned(), value: vec![b'x'; size], version: 1 };
                Heard::note(|| Answer::Entry(json!({ "key": "k" }), Ok(Some(entry))));
                Heard::note(|| Answer::Contains(json!({ "user_id": "9" }), Err(Unavailable)));
            }));
            tokio::spawn(job).await.unwrap();
            Ok(Vec::new())
        };
        recorder.during(None, &channel, &event, None, call).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_asked_for_is_taken_down_with_what_the_host_answered_elsewhere() {
        let recorder = Arc::new(Recorder::default());
        handled(&recorder, "acme", 3).await;
        let mut recording = recorder.record(wanted()).unwrap();
        handled(&recorder, "apex", 3).await;
        handled(&recorder, "acme", 3).await;
        let recorded = serde_json::to_value(recording.next().await.unwrap()).unwrap();
        assert_eq!((&recorded["tenant"], &recorded["payload"]), (&json!("acme"), &json!({ "a": 1 })));
        assert_eq!(recorded["reads"][0]["answer"], json!({ "key": "k", "value": "xxx", "version": 1 }));
        assert_eq!(recorded["reads"][1], json!({ "call": "members.contains", "arguments": { "user_id": "9" } }));
        assert!(recording.takes.try_recv().is_err(), "nothing else was taken down");
        drop(recording);
        assert_eq!(recorder.running.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_nobody_waits_for_it() {
        let recorder = Arc::new(Recorder::default());
        let mut recording = recorder.record(wanted()).unwrap();
        for _ in 0..WAITING + 3 {
            handled(&recorder, "acme", 1).await;
        }
        assert_eq!(recording.missed(), 3);
        recording.next().await.unwrap();
        handled(&recorder, "acme", MOST_ANSWERED + 1).await;
        assert_eq!(recording.missed(), 4, "it was answered too much to be kept");
    }

    #[test]
    fn a_node_has_a_bound_of_recordings_and_gives_places_back() {
        let recorder = Arc::new(Recorder::default());
        let mut all: Vec<Recording> = (0..RECORDINGS).map(|_| recorder.record(wanted()).unwrap()).collect();
        assert_eq!(recorder.record(wanted()).unwrap_err(), TooMany);
        all.pop();
        assert!(recorder.record(wanted()).is_ok());
    }
}
