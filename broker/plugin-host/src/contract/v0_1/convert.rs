//! Converts the broker's types to those of version 0.1.

use serde_json::value::RawValue;
use switchboard_model::{KvEntry, Message, Timestamp, User};

use super::bindings::switchboard::plugin::{kv, types};

impl From<KvEntry> for kv::Entry {
    fn from(KvEntry { key, value, version }: KvEntry) -> Self {
        Self { key, value, version }
    }
}

impl From<User> for types::User {
    fn from(user: User) -> Self {
        Self { id: user.id.to_string(), username: user.username.to_string() }
    }
}

impl From<Message> for types::Message {
    fn from(message: Message) -> Self {
        Self {
            id: message.id.to_string(),
            seq: message.seq,
            kind: message.kind.to_string(),
            sender: message.sender.into(),
            content: message.content.get().to_owned(),
            reply_to: message.reply_to.map(|id| id.to_string()),
            attachments: objects(&message.attachments),
            created_at_ms: milliseconds(message.created_at),
            edited_at_ms: message.edited_at.map(milliseconds),
            deleted_at_ms: message.deleted_at.map(milliseconds),
        }
    }
}

pub(super) fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

/// Splits a JSON array into the text of each object.
fn objects(array: &RawValue) -> Vec<String> {
    let objects: Vec<&RawValue> = serde_json::from_str(array.get()).unwrap_or_default();
    objects.into_iter().map(|object| object.get().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_come_apart_as_they_were_written() {
        let array = RawValue::from_string(r#"[{"a":1e400}, {"b":[{}]}]"#.to_owned()).unwrap();
        assert_eq!(objects(&array), [r#"{"a":1e400}"#, r#"{"b":[{}]}"#]);
    }
}
