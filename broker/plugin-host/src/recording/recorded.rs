//! One recorded event: a line of JSON with the event and what the host answered while it was handled.
//!
//! Authors write such lines to try out a plugin; a recorder writes them from live events. Nothing here runs a plugin.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use switchboard_model::json::{Unfit, check};
use switchboard_model::{
    ChannelId, ChannelKey, Event, Kind, KvEntry, Message, MessageId, SessionId, TenantSlug, Timestamp, User, Username,
};

/// Time of the first event if its line gives none: 2026-01-01T00:00:00Z.
const BEGINNING_MS: u64 = 1_767_225_600_000;

/// First of the ids used where a line gives none.
const FIRST_ID: u128 = 0x0198_a5c0_0000_7000_8000_0000_0000_0001;

/// One event. Missing fields get values derived from the line's number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The type of the frame or of the stored message.
    pub kind: Kind,
    /// The frame, a JSON object. `{}` if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// `demo` if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantSlug>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
    /// `alice` if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Person>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// When the broker received it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<MessageId>,
    /// The host's answers, call by call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Read>,
    /// If present, the plugin's `stored` is called with this message instead of `handle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<RecordedMessage>,
}

/// A member in full, or just a name that doubles as the id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Person {
    Named(Username),
    Whole(User),
}

/// A host call made by a handler, and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    pub call: Call,
    /// The arguments by name; `null` matches anything.
    #[serde(default)]
    pub arguments: Value,
    /// Left out when the broker could not answer.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub answer: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// A list of messages.
    #[serde(rename = "history.recent")]
    Recent,
    /// A message or `null`.
    #[serde(rename = "history.get")]
    Message,
    /// A list of members.
    #[serde(rename = "members.page")]
    Members,
    /// True or false.
    #[serde(rename = "members.contains")]
    Contains,
    /// A list of members.
    #[serde(rename = "presence.online")]
    Online,
    /// An entry or `null`.
    #[serde(rename = "kv.get")]
    KvGet,
    /// A list of entries.
    #[serde(rename = "kv.page")]
    KvPage,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedMessage {
    pub(crate) id: MessageId,
    #[serde(default)]
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(crate) sender: User,
    pub(crate) content: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attachments: Vec<Box<RawValue>>,
    pub(crate) created_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) edited_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_at_ms: Option<u64>,
}

/// A key's entry. The value is a string if it is UTF-8, and otherwise `{"hex":"…"}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedEntry {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) version: u64,
}

impl Recorded {
    /// Reads a file with one event on each line. Empty lines and lines that begin with `#` are skipped. The error names
    /// the line.
    pub fn read_lines(text: &str) -> Result<Vec<Self>, String> {
        let mut events = Vec::new();
        let is_event = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_event(line)) {
            let wrong = |error: String| format!("line {}: {error}", number + 1);
            let event: Self = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            event.check().map_err(wrong)?;
            events.push(event);
        }
        Ok(events)
    }

    /// The recorded form of a live event, without the host's answers.
    pub(crate) fn of(channel: &ChannelKey, event: &Event, message: Option<&Message>) -> Self {
        Self {
            kind: event.kind.clone(),
            payload: serde_json::from_str(&event.payload).ok(),
            tenant: Some(channel.tenant.clone()),
            channel: Some(channel.channel),
            user: Some(Person::Whole(event.user.clone())),
            session: event.session,
            now_ms: Some(milliseconds(event.at)),
            event_id: Some(event.id),
            reads: Vec::new(),
            message: message.map(RecordedMessage::from),
        }
    }

    /// The live form of this event. `index` is its position in the file, from 0.
    pub(crate) fn event(&self, index: usize) -> (ChannelKey, Event, Option<Message>) {
        let step = u64::try_from(index).unwrap_or(u64::MAX);
        let channel = self.channel.unwrap_or(ChannelId(Uuid::from_u128(FIRST_ID)));
        let tenant = self.tenant.clone().unwrap_or_else(|| "demo".parse().expect("a slug"));
        let mut payload = self.payload.clone().unwrap_or_else(|| json!({}));
        if let (Value::Object(frame), None) = (&mut payload, &self.message) {
            // Every frame from a client has a `type`.
            frame.entry("type").or_insert_with(|| self.kind.as_str().into());
        }
        let event = Event {
            kind: self.kind.clone(),
            payload: payload.to_string(),
            channel,
            user: self.user.as_ref().map_or_else(|| named("alice"), Person::user),
            session: self.session,
            client_id: None,
            id: self.event_id.unwrap_or(MessageId(Uuid::from_u128(FIRST_ID + 1 + u128::from(step)))),
            at: at(self.now_ms.unwrap_or(BEGINNING_MS + step * 1_000)),
        };
        let message = self.message.as_ref().map(|message| message.message(channel));
        (ChannelKey { tenant, channel }, event, message)
    }

    fn check(&self) -> Result<(), String> {
        if self.payload.as_ref().is_some_and(|payload| !payload.is_object()) {
            return Err("`payload` must be an object".to_owned());
        }
        if let Some(message) = &self.message {
            message.check().map_err(|error| format!("`message` {error}"))?;
        }
        for read in &self.reads {
            let Some(answer) = &read.answer else { continue };
            read.call.check(answer).map_err(|error| {
                format!("failed to parse the answer of {}: {error}", json!(read.call).as_str().unwrap_or_default())
            })?;
        }
        Ok(())
    }
}

impl Call {
    fn check(self, answer: &Value) -> Result<(), serde_json::Error> {
        let answer = answer.clone();
        match self {
            Call::Recent => serde_json::from_value::<Vec<RecordedMessage>>(answer).map(drop),
            Call::Message => serde_json::from_value::<Option<RecordedMessage>>(answer).map(drop),
            Call::Members | Call::Online => serde_json::from_value::<Vec<User>>(answer).map(drop),
            Call::Contains => serde_json::from_value::<bool>(answer).map(drop),
            Call::KvGet => serde_json::from_value::<Option<RecordedEntry>>(answer).map(drop),
            Call::KvPage => serde_json::from_value::<Vec<RecordedEntry>>(answer).map(drop),
        }
    }
}

impl Person {
    fn user(&self) -> User {
        match self {
            Person::Named(name) => named(name.as_str()),
            Person::Whole(user) => user.clone(),
        }
    }
}

impl RecordedMessage {
    /// No other JSON is ever stored.
    fn check(&self) -> Result<(), Unfit> {
        std::iter::once(&self.content).chain(&self.attachments).try_for_each(|value| check(value.get()))
    }

    pub(crate) fn message(&self, channel: ChannelId) -> Message {
        let texts: Vec<&str> = self.attachments.iter().map(|object| object.get()).collect();
        let attachments = format!("[{}]", texts.join(","));
        Message {
            id: self.id,
            channel,
            seq: self.seq,
            kind: self.kind.clone(),
            sender: self.sender.clone(),
            content: self.content.clone(),
            reply_to: self.reply_to,
            attachments: RawValue::from_string(attachments).expect("JSON values make a JSON array"),
            created_at: at(self.created_at_ms),
            edited_at: self.edited_at_ms.map(at),
            deleted_at: self.deleted_at_ms.map(at),
            read_by: Vec::new(),
        }
    }
}

impl From<&Message> for RecordedMessage {
    fn from(message: &Message) -> Self {
        Self {
            id: message.id,
            seq: message.seq,
            kind: message.kind.clone(),
            sender: message.sender.clone(),
            content: on_one_line(&message.content),
            reply_to: message.reply_to,
            attachments: serde_json::from_str::<Vec<Box<RawValue>>>(message.attachments.get())
                .unwrap_or_default()
                .iter()
                .map(|object| on_one_line(object))
                .collect(),
            created_at_ms: milliseconds(message.created_at),
            edited_at_ms: message.edited_at.map(milliseconds),
            deleted_at_ms: message.deleted_at.map(milliseconds),
        }
    }
}

impl From<&KvEntry> for RecordedEntry {
    fn from(entry: &KvEntry) -> Self {
        Self { key: entry.key.clone(), value: bytes_to_json(&entry.value), version: entry.version }
    }
}

impl From<RecordedEntry> for KvEntry {
    fn from(entry: RecordedEntry) -> Self {
        Self { key: entry.key, value: bytes_of_json(&entry.value), version: entry.version }
    }
}

/// A string for UTF-8, `{"hex":"…"}` for anything else.
pub(crate) fn bytes_to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

fn bytes_of_json(value: &Value) -> Vec<u8> {
    if let Some(text) = value.as_str() {
        return text.as_bytes().to_owned();
    }
    let digits = value["hex"].as_str().unwrap_or_default().as_bytes();
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    digits.chunks_exact(2).filter_map(|pair| Some(nibble(&pair[0])? << 4 | nibble(&pair[1])?)).collect()
}

/// A value as it was written, which may be on several lines. In JSON, a line ends between values only.
fn on_one_line(value: &RawValue) -> Box<RawValue> {
    RawValue::from_string(value.get().replace(['\n', '\r'], " ")).expect("blanks make no difference")
}

/// Distinguishes an answer of `null` from a missing answer.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn named(name: &str) -> User {
    // A name may be longer than an id, and begin with characters that show nothing.
    let id = name[..name.floor_char_boundary(64)].parse();
    let id = id.unwrap_or_else(|_| "named".parse().expect("an id"));
    User { id, username: name.parse().expect("it is a name") }
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp(i64::try_from(milliseconds).unwrap_or(i64::MAX))
}

fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_line_is_a_whole_event_and_two_lines_are_two_events() {
        let lines = "{\"kind\":\"poke\",\"payload\":{\"n\":1},\"user\":\"bob\"}\n\n{\"kind\":\"poke\"}\n";
        let events = Recorded::read_lines(lines).unwrap();
        let (channel, first, message) = events[0].event(0);
        assert_eq!((channel.tenant.as_str(), first.user.id.as_str()), ("demo", "bob"));
        assert_eq!(first.payload, r#"{"n":1,"type":"poke"}"#);
        assert!(message.is_none());
        let (_, second, _) = events[1].event(1);
        assert_eq!(second.user.username.as_str(), "alice");
        assert!(second.id > first.id && second.at > first.at);
    }

    #[test]
    fn a_line_that_does_not_read_is_named() {
        for (line, said) in [
            ("{\"kind\":\"poke\",\"payloda\":{}}", "line 2: unknown field `payloda`"),
            ("{\"kind\":\"poke\",\"payload\":7}", "line 2: `payload` must be an object"),
            ("{\"kind\":\"poke\",\"reads\":[{\"call\":\"kv.put\"}]}", "line 2: unknown variant `kv.put`"),
            (
                "{\"kind\":\"poke\",\"reads\":[{\"call\":\"members.contains\",\"answer\":1}]}",
                "line 2: failed to parse the answer of members.contains",
            ),
        ] {
            let error = Recorded::read_lines(&format!("{{\"kind\":\"poke\"}}\n{line}")).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn values_survive_a_file_whether_they_are_text_or_not() {
        for value in [b"{\"yes\":2}".to_vec(), vec![0xff, 0, 0x1a], Vec::new()] {
            let entry = KvEntry { key: "k".to_owned(), value, version: 3 };
            let written = serde_json::to_string(&RecordedEntry::from(&entry)).unwrap();
            let read: RecordedEntry = serde_json::from_str(&written).unwrap();
            assert_eq!(KvEntry::from(read), entry, "{written}");
        }
    }

    #[test]
    fn an_answer_of_null_is_an_answer() {
        let read: Read = serde_json::from_str(r#"{"call":"history.get","answer":null}"#).unwrap();
        assert_eq!(read.answer, Some(Value::Null));
        let silent: Read = serde_json::from_str(r#"{"call":"history.get"}"#).unwrap();
        assert_eq!(silent.answer, None);
    }

    #[test]
    fn a_name_that_begins_with_blanks_is_a_member() {
        let name = format!("{}a", " ".repeat(70));
        let events = Recorded::read_lines(&json!({ "kind": "poke", "user": name }).to_string()).unwrap();
        let (_, event, _) = events[0].event(0);
        assert_eq!((event.user.id.as_str(), event.user.username.as_str()), ("named", name.as_str()));
    }

    /// Contents are stored as they were written.
    #[test]
    fn a_content_on_several_lines_is_recorded_on_one() {
        let id = MessageId(Uuid::nil());
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let message = Message {
            id,
            channel: ChannelId(id.0),
            seq: 1,
            kind: "poke".parse().unwrap(),
            sender: named("alice"),
            content: raw("{\n\t\"a\":\r\n\"x\\ny\"}"),
            reply_to: None,
            attachments: raw("[\n{\n}]"),
            created_at: Timestamp(1),
            edited_at: None,
            deleted_at: None,
            read_by: Vec::new(),
        };
        let written = serde_json::to_string(&RecordedMessage::from(&message)).unwrap();
        assert!(!written.contains(['\n', '\r']), "{written}");
        let read: RecordedMessage = serde_json::from_str(&written).unwrap();
        let content: Value = serde_json::from_str(read.content.get()).unwrap();
        assert_eq!(content, json!({ "a": "x\ny" }));
    }

    #[test]
    fn a_message_that_no_store_has_is_not_read() {
        let content = "[".repeat(70) + &"]".repeat(70);
        for content in ["1e999", content.as_str()] {
            let user = r#"{"id":"1","username":"a"}"#;
            let id = "0198a5c0-1111-7000-8000-000000000001";
            let message =
                format!(r#"{{"id":"{id}","kind":"poke","sender":{user},"content":{content},"created_at_ms":1}}"#);
            let error = Recorded::read_lines(&format!(r#"{{"kind":"poke","message":{message}}}"#)).unwrap_err();
            assert!(error.starts_with("line 1: `message` must"), "{error}");
        }
    }
}
