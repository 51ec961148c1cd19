//! Removes what people said and who they are from a recording, and keeps its shape.
//!
//! Letters and digits become others of the same class, so lengths and shapes stay. An id is always replaced by the same
//! other id, so references still match. Types, numbers, times, the tenant and the names of JSON object members stay.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use crate::recording::recorded::Recorded;

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
    /// Returns a redacted copy of the event.
    pub fn apply(&mut self, recorded: &Recorded) -> Recorded {
        let mut event = serde_json::to_value(recorded).expect("an event of a file has a JSON form");
        // Learn all user ids first: a text may mention one before the object that defines it.
        self.learn(&event);
        for name in ["payload", "user", "channel", "session", "event_id", "reads", "message"] {
            if let Some(part) = event.get_mut(name) {
                self.value(part, name);
            }
        }
        serde_json::from_value(event).expect("the form of an event stays")
    }

    /// Assigns a replacement to every user id in the value.
    fn learn(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(members) => {
                if let (Some(Value::String(id)), Some(_)) = (members.get("id"), members.get("username")) {
                    let next = self.users.len() + 1;
                    self.users.entry(id.clone()).or_insert_with(|| format!("user-{next}"));
                }
                members.values().for_each(|member| self.learn(member));
            }
            _ => {}
        }
    }

    fn value(&mut self, value: &mut Value, name: &str) {
        match value {
            Value::String(_) if TYPES.contains(&name) || name == "call" => {}
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
        let mut redacted = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let id = rest.get(..UUID).and_then(|start| Uuid::try_parse(start).ok());
            let taken = if let Some(id) = id {
                let next = u128::try_from(self.ids.len()).unwrap_or(0) + 1;
                // A version 7 UUID, as the broker's own ids are.
                let other = self.ids.entry(id).or_insert(Uuid::from_u128(0x7000_8000_0000_0000_0000 | next));
                redacted.push_str(&other.to_string());
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
}
