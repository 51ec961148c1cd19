//! Removes what people said and who they are from a recording, and keeps its shape.
//!
//! Letters and digits become others of the same class, so lengths and shapes stay. An id is always replaced by the same
//! other id, so references still match. Types, numbers, times, the tenant and the names of JSON object members stay.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use switchboard_model::{ChannelId, MessageId, SessionId, User, Username};
use uuid::Uuid;

use crate::recording::recorded::{Call, Person, Recorded, RecordedEntry, RecordedMessage};

/// Length of a UUID as text.
const UUID: usize = 36;

/// Object members whose value names a message type and is kept.
const TYPES: [&str; 2] = ["type", "kind"];

/// The replacements made so far in one recording.
#[derive(Debug, Default)]
pub struct Redaction {
    users: HashMap<String, String>,
    ids: HashMap<Uuid, Uuid>,
}

impl Redaction {
    /// Returns a redacted copy of the event. What a client or a plugin may write freely is redacted as the JSON it is, and
    /// everything else as what it is: no text of theirs can change the form of the event.
    pub fn apply(&mut self, recorded: &Recorded) -> Recorded {
        // Learn all user ids first: a text may mention one before the object that defines it.
        self.learn(&serde_json::to_value(recorded).unwrap_or_default());
        let mut event = recorded.clone();
        if let Some(payload) = &mut event.payload {
            self.value(payload, "payload");
        }
        event.user = event.user.map(|person| match person {
            Person::Named(name) => Person::Named(self.username(&name)),
            Person::Whole(user) => Person::Whole(self.user(user)),
        });
        event.channel = event.channel.map(|id| ChannelId(self.id(id.0)));
        event.session = event.session.map(|id| SessionId(self.id(id.0)));
        event.event_id = event.event_id.map(|id| MessageId(self.id(id.0)));
        for read in &mut event.reads {
            self.value(&mut read.arguments, "arguments");
            read.answer = read.answer.take().map(|answer| self.answer(read.call, answer));
        }
        event.message = event.message.map(|message| self.message(message));
        event
    }

    fn answer(&mut self, call: Call, answer: Value) -> Value {
        match call {
            Call::Contains => answer,
            Call::Recent | Call::Message => each(answer, |message| self.message(message)),
            Call::Members | Call::Online => each(answer, |user| self.user(user)),
            Call::KvGet | Call::KvPage => each(answer, |entry| self.entry(entry)),
        }
    }

    fn message(&mut self, message: RecordedMessage) -> RecordedMessage {
        RecordedMessage {
            id: MessageId(self.id(message.id.0)),
            sender: self.user(message.sender),
            content: self.raw(&message.content),
            reply_to: message.reply_to.map(|id| MessageId(self.id(id.0))),
            attachments: message.attachments.iter().map(|object| self.raw(object)).collect(),
            ..message
        }
    }

    fn user(&mut self, user: User) -> User {
        let id = self.user_id(user.id.as_str());
        User { id: id.parse().expect("a replacement is an id"), username: self.username(&user.username) }
    }

    /// The replacement of a user id.
    fn user_id(&mut self, id: &str) -> String {
        let next = self.users.len() + 1;
        self.users.entry(id.to_owned()).or_insert_with(|| format!("user-{next}")).clone()
    }

    /// A name is no JSON, whatever it looks like, and keeps its length. One that was stored under other rules gets another.
    fn username(&mut self, name: &Username) -> Username {
        self.plain(name.as_str()).parse().unwrap_or_else(|_| "x".parse().expect("a name"))
    }

    fn entry(&mut self, mut entry: RecordedEntry) -> RecordedEntry {
        entry.key = self.text(&entry.key);
        match entry.value.get_mut("hex") {
            Some(hex) => self.value(hex, "hex"),
            None => self.value(&mut entry.value, "value"),
        }
        entry
    }

    fn raw(&mut self, raw: &RawValue) -> Box<RawValue> {
        let mut value = serde_json::from_str(raw.get()).unwrap_or_default();
        self.value(&mut value, "");
        to_raw_value(&value).expect("a value has a JSON form")
    }

    /// Assigns a replacement to every user id in the value.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(members) => {
                if let (Some(Value::String(id)), Some(_)) = (members.get("id"), members.get("username")) {
                    self.user_id(id);
                }
                members.values().for_each(|member| self.learn(member));
            }
            _ => {}
        }
    }

    fn value(&mut self, value: &mut Value, name: &str) {
        match value {
            Value::String(_) if TYPES.contains(&name) => {}
            Value::String(text) if name == "hex" => *text = "0".repeat(text.len()),
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, "")),
            Value::Object(members) => {
                let all = std::mem::take(members);
                members.extend(all.into_iter().map(|(name, mut member)| {
                    self.value(&mut member, &name);
                    (self.name(name), member)
                }));
            }
            _ => {}
        }
    }

    /// Keeps the name of an object member unless it is an id.
    fn name(&mut self, name: String) -> String {
        let is_id = self.users.contains_key(&name) || Uuid::try_parse(&name).is_ok();
        if is_id { self.text(&name) } else { name }
    }

    fn text(&mut self, text: &str) -> String {
        if let Some(known) = self.users.get(text) {
            return known.clone();
        }
        // Plugins store JSON under their keys; redact inside it so that it still parses.
        if text.starts_with(['{', '['])
            && let Ok(mut inside) = serde_json::from_str::<Value>(text)
        {
            self.value(&mut inside, "");
            return inside.to_string();
        }
        self.plain(text)
    }

    fn id(&mut self, id: Uuid) -> Uuid {
        let next = u128::try_from(self.ids.len()).unwrap_or(0) + 1;
        // A version 7 UUID, as the broker's own ids are.
        *self.ids.entry(id).or_insert(Uuid::from_u128(0x7000_8000_0000_0000_0000 | next))
    }

    /// A text of which nothing is looked into.
    fn plain(&mut self, text: &str) -> String {
        let mut redacted = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let id = rest.get(..UUID).and_then(|start| Uuid::try_parse(start).ok());
            let taken = if let Some(id) = id {
                redacted.push_str(&self.id(id).to_string());
                UUID
            } else {
                redacted.push(another(first));
                first.len_utf8()
            };
            rest = &rest[taken..];
        }
        redacted
    }
}

/// Changes one item, or each of a list. What is no such item is left out.
fn each<T: DeserializeOwned + Serialize>(answer: Value, mut change: impl FnMut(T) -> T) -> Value {
    let mut one = |item| serde_json::from_value(item).ok().and_then(|item| serde_json::to_value(change(item)).ok());
    match answer {
        Value::Array(items) => items.into_iter().filter_map(one).collect(),
        item => one(item).unwrap_or_default(),
    }
}

/// A character of the same class and the same length in bytes.
fn another(c: char) -> char {
    match c.len_utf8() {
        1 if c.is_ascii_digit() => '0',
        1 if c.is_ascii_lowercase() => 'x',
        1 if c.is_ascii_uppercase() => 'X',
        1 => c,
        2 => 'ж',
        3 => '字',
        _ => '🂠',
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_form_stays_and_what_was_said_does_not() {
        let channel = "0198a5c0-1111-7000-8000-000000000001";
        let message = "0198a5c0-2222-7000-8000-000000000002";
        let event: Recorded = serde_json::from_value(json!({
            "kind": "poll.vote",
            "tenant": "acme",
            "channel": channel,
            "user": {"id": "42", "username": "Zoë B"},
            "now_ms": 7,
            "payload": {"type": "poll.vote", "poll": message, "to": "43", "choice": "Pizza, 2x!", "n": 3},
            "reads": [
                {"call": "members.contains", "arguments": {"user_id": "43"}, "answer": true},
                {"call": "presence.online", "arguments": {}, "answer": [{"id": "43", "username": "bob"}]},
                {"call": "kv.get", "arguments": {"key": format!("poll/{message}")},
                 "answer": {"key": format!("poll/{message}"), "value": "{\"votes\":{\"42\":\"Pizza\"}}", "version": 2}},
                {"call": "kv.get", "arguments": {"key": "k"}, "answer": {"key": "k", "value": {"hex": "ff01"}, "version": 1}},
            ],
        }))
        .unwrap();
        let mut redaction = Redaction::default();
        let redacted = serde_json::to_value(redaction.apply(&event)).unwrap();
        let text = redacted.to_string();
        for secret in ["Pizza", "Zoë", "bob", message, channel, "\"42\"", "\"43\"", "\\\"42\\\"", "ff01"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert_eq!(redacted["payload"]["choice"], "Xxxxx, 0x!");
        assert_eq!(redacted["user"]["username"], "Xxж X");
        assert_eq!((&redacted["payload"]["type"], &redacted["payload"]["n"]), (&json!("poll.vote"), &json!(3)));
        assert_eq!((&redacted["tenant"], &redacted["now_ms"]), (&json!("acme"), &json!(7)));
        let poll = redacted["payload"]["poll"].as_str().unwrap();
        assert_eq!(redacted["reads"][2]["arguments"]["key"], format!("xxxx/{poll}"));
        assert_eq!(redacted["payload"]["to"], redacted["reads"][1]["answer"][0]["id"]);
        assert_eq!(redacted["reads"][0]["arguments"]["user_id"], redacted["payload"]["to"]);
        assert!(text.contains("votes"), "{text}");
        let again = serde_json::to_value(redaction.apply(&event)).unwrap();
        assert_eq!(again, redacted, "the same each time");
    }

    /// Clients and plugins choose the texts of an event.
    #[test]
    fn nothing_that_is_said_changes_the_form_of_an_event() {
        let id = "0198a5c0-1111-7000-8000-000000000001";
        let names =
            ["user", "kind", "call", "id", "username", "reads", "key", "value", "hex", "poke", "kv.get", "demo", id];
        for name in names {
            let user = json!({"id": name, "username": "[1e9,{\"a\":1e9},0,0,0,0]"});
            let event: Recorded = serde_json::from_value(json!({
                "kind": "poke", "tenant": "demo", "channel": id, "session": id, "event_id": id,
                "user": user, "payload": {"type": "poke", "who": user, (name): [name]},
                "reads": [
                    {"call": "kv.get", "arguments": {"key": "k"}, "answer": {"key": name, "value": {"hex": "00"}, "version": 1}},
                    {"call": "history.get", "answer": null},
                    {"call": "members.page", "answer": [user]},
                ],
                "message": {"id": id, "kind": "poke", "sender": user, "content": {(name): user}, "created_at_ms": 1},
            }))
            .unwrap();
            let redacted = Redaction::default().apply(&event);
            let written = serde_json::to_string(&redacted).unwrap();
            let read = Recorded::read_lines(&written).unwrap();
            assert_eq!((read[0].reads.len(), read[0].kind.as_str()), (3, "poke"), "{written}");
            let Some(Person::Whole(user)) = &read[0].user else { panic!("{written}") };
            assert_eq!(user.id.as_str(), "user-1");
            assert_eq!(read[0].reads[2].answer.as_ref().unwrap()[0]["id"], "user-1");
            assert_ne!(read[0].channel.unwrap().to_string(), id);
        }
    }
}
