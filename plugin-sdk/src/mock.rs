//! Events and a host for native tests of a handler.
//!
//! The mock enforces the broker's limits, so a handler that exceeds them already fails here. A test inspects the list of
//! effects that the handler returns; the mock applies only writes of keys, and only on request ([`MockHost::apply`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Context, Effect, Event, Host, HostError, KvEntry, Level, Message, User};

/// Reads that a handler can make for one event.
pub const MAX_READS: u32 = 32;
/// Log lines that are kept for one event.
pub const MAX_LOG_LINES: usize = 20;
/// Bytes at which a log line is cut.
pub const MAX_LOG_LINE_BYTES: usize = 1024;
/// Messages or members that one read returns at most.
pub const MAX_PAGE: usize = 100;

/// An event that the member `alice` caused in a channel of the tenant `demo`. The payload gets the `type` that a
/// client's frame would have.
pub fn event(kind: &str, mut payload: Value) -> Event {
    if let Value::Object(frame) = &mut payload {
        frame.entry("type").or_insert_with(|| kind.into());
    }
    Event { kind: kind.to_owned(), json: payload.to_string(), context: context() }
}

/// A notice of the broker, such as `user.join`, about the member `alice`.
pub fn notice(kind: &str) -> Event {
    Event { kind: kind.to_owned(), json: json!({}).to_string(), context: context() }
}

/// A member with this name, whose id is `user-` followed by the name.
pub fn user(username: &str) -> User {
    User { id: format!("user-{username}"), username: username.to_owned() }
}

/// A message of the kind `chat.message`, whose id is `message-` followed by its `seq`.
pub fn message(seq: u64, sender: &str, content: &Value) -> Message {
    Message {
        id: format!("message-{seq}"),
        seq,
        kind: "chat.message".to_owned(),
        sender: user(sender),
        content: content.to_string(),
        reply_to: None,
        attachments: Vec::new(),
        created_at_ms: NOW_MS - 60_000 + seq,
        edited_at_ms: None,
        deleted_at_ms: None,
    }
}

/// The context in which [`Handler::stored`](crate::Handler::stored) receives a message.
pub fn context_of(message: &Message) -> Context {
    Context {
        user: message.sender.clone(),
        session: None,
        event_id: message.id.clone(),
        now_ms: message.created_at_ms,
        ..context()
    }
}

const NOW_MS: u64 = 1_767_225_600_000;

fn context() -> Context {
    Context {
        tenant: "demo".to_owned(),
        channel: "0198a5c0-0000-7000-8000-000000000001".to_owned(),
        user: user("alice"),
        session: Some("0198a5c0-0000-7000-8000-000000000002".to_owned()),
        event_id: "0198a5c0-0000-7000-8000-000000000003".to_owned(),
        now_ms: NOW_MS,
    }
}

/// A key did not have the version that a write expected. The broker would then apply nothing of the event and call the
/// handler again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

/// A host that answers from values that the test provides. It is the host of one event; [`MockHost::apply`] readies it
/// for the next one.
#[derive(Debug, Default)]
pub struct MockHost {
    kv: BTreeMap<String, KvEntry>,
    kv_writes: u64,
    messages: BTreeMap<u64, Message>,
    members: BTreeMap<String, User>,
    online: BTreeMap<String, User>,
    failing: Option<HostError>,
    reads: Cell<u32>,
    log: RefCell<Vec<(Level, String)>>,
}

impl MockHost {
    /// A host for a channel without messages or members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds messages to the history.
    #[must_use]
    pub fn with_messages(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.messages.extend(messages.into_iter().map(|message| (message.seq, message)));
        self
    }

    /// Adds members to the channel.
    #[must_use]
    pub fn with_members(mut self, members: impl IntoIterator<Item = User>) -> Self {
        self.members.extend(members.into_iter().map(|user| (user.id.clone(), user)));
        self
    }

    /// Adds members to the channel who are also connected to it.
    #[must_use]
    pub fn with_online(mut self, users: impl IntoIterator<Item = User>) -> Self {
        self.online.extend(users.into_iter().map(|user| (user.id.clone(), user)));
        let online: Vec<User> = self.online.values().cloned().collect();
        self.with_members(online)
    }

    /// Writes a value under one of the plugin's keys.
    #[must_use]
    pub fn with_kv(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.put(key, value.into());
        self
    }

    /// Applies the writes of keys among an event's effects, all or none, and begins the next event with its limits unused.
    /// Keys do not expire here.
    ///
    /// # Errors
    ///
    /// If a key does not have the version that a write expects.
    pub fn apply(&mut self, effects: &[Effect]) -> Result<(), Conflict> {
        let version = |key: &str| self.kv.get(key).map_or(0, |entry| entry.version);
        let writes = || {
            effects.iter().filter_map(|effect| match effect {
                Effect::KvPut(write) => Some(write),
                _ => None,
            })
        };
        if writes().any(|write| write.expected.is_some_and(|expected| expected != version(&write.key))) {
            return Err(Conflict);
        }
        for write in writes() {
            match &write.value {
                Some(value) => self.put(&write.key, value.clone()),
                None => drop(self.kv.remove(&write.key)),
            }
        }
        self.reads.set(0);
        self.log.borrow_mut().clear();
        Ok(())
    }

    /// Makes every read fail with this text.
    #[must_use]
    pub fn that_fails(mut self, text: impl Into<String>) -> Self {
        self.failing = Some(HostError(text.into()));
        self
    }

    /// The lines that the handler logged and that the broker would keep.
    pub fn log_lines(&self) -> Vec<(Level, String)> {
        self.log.borrow().clone()
    }

    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.kv_writes += 1;
        self.kv.insert(key.to_owned(), KvEntry { key: key.to_owned(), value, version: self.kv_writes });
    }

    fn count_read(&self) -> Result<(), HostError> {
        self.reads.set(self.reads.get() + 1);
        match &self.failing {
            Some(error) => Err(error.clone()),
            None if self.reads.get() > MAX_READS => {
                Err(HostError(format!("more than {MAX_READS} reads for one event")))
            }
            None => Ok(()),
        }
    }
}

impl Host for MockHost {
    fn recent(&self, before: Option<u64>, limit: u32) -> Result<Vec<Message>, HostError> {
        self.count_read()?;
        let before = self.messages.range(..before.unwrap_or(u64::MAX));
        let mut newest: Vec<Message> =
            before.rev().take(page_size(limit)).map(|(_, message)| message.clone()).collect();
        newest.reverse();
        Ok(newest)
    }

    fn message(&self, id: &str) -> Result<Option<Message>, HostError> {
        self.count_read()?;
        Ok(self.messages.values().find(|message| message.id == id).cloned())
    }

    fn members(&self, after: Option<&str>, limit: u32) -> Result<Vec<User>, HostError> {
        self.count_read()?;
        let later = self.members.values().filter(|user| after.is_none_or(|after| user.id.as_str() > after));
        Ok(later.take(page_size(limit)).cloned().collect())
    }

    fn is_member(&self, user_id: &str) -> Result<bool, HostError> {
        self.count_read()?;
        Ok(self.members.contains_key(user_id))
    }

    fn online(&self) -> Result<Vec<User>, HostError> {
        self.count_read()?;
        Ok(self.online.values().take(MAX_PAGE).cloned().collect())
    }

    fn kv_get(&self, key: &str) -> Result<Option<KvEntry>, HostError> {
        self.count_read()?;
        Ok(self.kv.get(key).cloned())
    }

    fn kv_page(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<KvEntry>, HostError> {
        self.count_read()?;
        let matching = self.kv.values().filter(|entry| entry.key.starts_with(prefix));
        let later = matching.filter(|entry| after.is_none_or(|after| entry.key.as_str() > after));
        Ok(later.take(page_size(limit)).cloned().collect())
    }

    fn log(&self, level: Level, line: &str) {
        let mut log = self.log.borrow_mut();
        if log.len() < MAX_LOG_LINES {
            log.push((level, line[..line.floor_char_boundary(MAX_LOG_LINE_BYTES)].to_owned()));
        }
    }
}

fn page_size(limit: u32) -> usize {
    usize::try_from(limit).map_or(MAX_PAGE, |limit| limit.min(MAX_PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_gives_the_newest_oldest_first() {
        let host = MockHost::new().with_messages((1..=150).map(|seq| message(seq, "bob", &json!("hi"))));
        let seqs = |before, limit| -> Vec<u64> {
            host.recent(before, limit).unwrap().into_iter().map(|message| message.seq).collect()
        };
        assert_eq!(seqs(None, 2), [149, 150]);
        assert_eq!(seqs(Some(3), 9), [1, 2]);
        assert_eq!(seqs(None, 1000), (51..=150).collect::<Vec<_>>());
        assert_eq!(host.message("message-7").unwrap().map(|message| message.seq), Some(7));
        assert_eq!(host.message("message-151").unwrap(), None);
    }

    #[test]
    fn members_come_in_pages_by_id() {
        let host = MockHost::new().with_members([user("carol"), user("alice")]).with_online([user("bob")]);
        assert_eq!(host.members(None, 2).unwrap(), [user("alice"), user("bob")]);
        assert_eq!(host.members(Some("user-bob"), 2).unwrap(), [user("carol")]);
        assert!(host.is_member("user-bob").unwrap());
        assert!(!host.is_member("user-dave").unwrap());
        assert_eq!(host.online().unwrap(), [user("bob")]);
    }

    #[test]
    fn keys_change_between_events_and_all_or_none() {
        use crate::KvWrite;

        let mut host = MockHost::new().with_kv("a", "1");
        let read = host.kv_get("a").unwrap();
        let put = |key: &str, read: Option<&KvEntry>| Effect::kv_put(KvWrite::bytes(key, "2").if_unchanged(read));
        assert_eq!(host.apply(&[put("a", read.as_ref()), put("b", None)]), Ok(()));
        assert_eq!(host.apply(&[put("c", None), put("a", read.as_ref())]), Err(Conflict), "it was written since");
        assert_eq!(host.kv_get("c").unwrap(), None, "nothing of it");
        let keys = |after| -> Vec<(String, u64)> {
            host.kv_page("", after, 9).unwrap().into_iter().map(|entry| (entry.key, entry.version)).collect()
        };
        assert_eq!(keys(None), [("a".to_owned(), 2), ("b".to_owned(), 3)], "no version twice");
        assert_eq!(keys(Some("a")), [("b".to_owned(), 3)]);
        assert_eq!(host.apply(&[Effect::kv_put(KvWrite::remove("a"))]), Ok(()));
        assert_eq!(host.kv_get("a").unwrap(), None);
    }

    #[test]
    fn the_broker_s_bounds_hold() {
        let host = MockHost::new();
        for _ in 0..MAX_READS {
            assert!(host.online().is_ok());
        }
        assert!(host.online().is_err());
        for _ in 0..30 {
            host.log(Level::Info, &"ü".repeat(1000));
        }
        assert_eq!(host.log_lines().len(), MAX_LOG_LINES);
        assert_eq!(host.log_lines()[0], (Level::Info, "ü".repeat(512)));
    }

    #[test]
    fn a_failing_host_fails_every_read() {
        let host = MockHost::new().that_fails("the store is away");
        assert_eq!(host.is_member("user-bob"), Err(HostError("the store is away".to_owned())));
    }
}
