//! Effects: what a handler can request from the broker.
//!
//! Creating an effect does nothing: it is a value, and the broker applies all effects of an event, or none.

use std::time::Duration;

use serde::Serialize;

use crate::{Failure, KvEntry};

/// What a handler requests from the broker. An event can have at most 64 effects, of 256 KiB together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Store a message and send it to the channel.
    Store(Draft),
    /// Change or delete a stored message of the channel.
    Amend(Amendment),
    /// Record that the sender of the event has read everything up to and including a message.
    MarkRead(ReadMark),
    /// Change one of the plugin's own keys.
    KvPut(KvWrite),
    /// Send a frame to the sessions that are connected now, and store nothing.
    Broadcast(Signal),
}

impl Effect {
    /// Stores a message and sends it to the channel.
    pub fn store(draft: Draft) -> Self {
        Self::Store(draft)
    }

    /// Replaces the content of a message of the channel. This sends no frame of its own: store a draft with it, so that
    /// members who were away learn of the change too. The handler must check whether the sender may change the message.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] when the content has no JSON form.
    pub fn amend(message_id: impl Into<String>, content: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        Ok(Self::Amend(Amendment { message_id: message_id.into(), content: Some(to_json(content)?) }))
    }

    /// Deletes a message of the channel: it keeps its place, and its content and attachments are lost for good. As with
    /// [`Effect::amend`], this sends no frame, and the handler must check whether the sender may do it.
    pub fn delete(message_id: impl Into<String>) -> Self {
        Self::Amend(Amendment { message_id: message_id.into(), content: None })
    }

    /// Changes one of the plugin's own keys.
    pub fn kv_put(write: KvWrite) -> Self {
        Self::KvPut(write)
    }

    /// Records that the sender of the event has read everything up to and including a message of its channel. The
    /// broker notifies the channel with a frame of type `kind` if the mark moved forward.
    pub fn mark_read(kind: impl Into<String>, message_id: impl Into<String>) -> Self {
        Self::MarkRead(ReadMark { kind: kind.into(), message_id: message_id.into() })
    }

    /// Sends a frame to the sessions that are connected now, and stores nothing.
    pub fn broadcast(signal: Signal) -> Self {
        Self::Broadcast(signal)
    }
}

/// A message to store. The broker gives it an id, the next `seq` of its channel and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The `type` of the frame that carries it.
    pub kind: String,
    /// Any JSON value, as text.
    pub content: String,
    /// The id of the message of the same channel that this one replies to.
    pub reply_to: Option<String>,
    /// JSON objects as text, one per attachment.
    pub attachments: Vec<String>,
}

impl Draft {
    /// Creates a message whose content is any value that has a JSON form.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if the value has no JSON form, such as a map whose keys are not strings.
    pub fn new(kind: impl Into<String>, content: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        Ok(Self { kind: kind.into(), content: to_json(content)?, reply_to: None, attachments: Vec::new() })
    }

    /// Makes this a reply to a message of the same channel; `None` makes it a reply to nothing.
    #[must_use]
    pub fn reply_to(self, message_id: impl Into<Option<String>>) -> Self {
        Self { reply_to: message_id.into(), ..self }
    }

    /// Attaches values that become JSON objects, replacing any that were attached before.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if the JSON form of a value is not an object.
    pub fn attachments(self, attachments: impl IntoIterator<Item: Serialize>) -> Result<Self, Failure> {
        let attachments = attachments.into_iter().map(|one| to_object(&one)).collect::<Result<_, _>>()?;
        Ok(Self { attachments, ..self })
    }
}

/// A change of a stored message of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amendment {
    /// It must be in the channel of the event.
    pub message_id: String,
    /// The new content, any JSON value as text; `None` deletes the message.
    pub content: Option<String>,
}

/// A change of one of the plugin's own keys in the tenant of the event. Requires the grant of [`Want::Kv`](crate::Want::Kv).
///
/// To change the value of a key, read it and write it with [`KvWrite::if_unchanged`]: if another event was faster, the
/// broker applies nothing of this one and calls the handler again, which then reads the new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    /// 1 to 256 bytes, without U+0000.
    pub key: String,
    /// At most 64 KiB; `None` removes the key.
    pub value: Option<Vec<u8>>,
    /// The key expires this many milliseconds after the event.
    pub ttl_ms: Option<u64>,
    /// The version that the key must have; 0 if the key must not exist.
    pub expected: Option<u64>,
}

impl KvWrite {
    /// Writes bytes under a key.
    pub fn bytes(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: Some(value.into()), ttl_ms: None, expected: None }
    }

    /// Writes a value under a key, as JSON. [`KvEntry::json`] reads it.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if the value has no JSON form.
    pub fn json(key: impl Into<String>, value: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        Ok(Self::bytes(key, to_json(value)?))
    }

    /// Removes a key.
    pub fn remove(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None, ttl_ms: None, expected: None }
    }

    /// Lets the key expire this long after the event, rounded down to whole milliseconds.
    #[must_use]
    pub fn ends_after(self, time: Duration) -> Self {
        Self { ttl_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// Writes only if the key is unchanged since it was read: if it has this entry's version or, for `None`, does not exist.
    #[must_use]
    pub fn if_unchanged(self, read: Option<&KvEntry>) -> Self {
        Self { expected: Some(read.map_or(0, |entry| entry.version)), ..self }
    }
}

/// Says that the sender of the event has read everything up to and including a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadMark {
    /// The `type` of the frame that notifies the channel.
    pub kind: String,
    /// It must be in the channel of the event.
    pub message_id: String,
}

/// A frame for the sessions that are connected now. If a client does not keep up, the broker drops signals first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Who gets it.
    pub audience: Audience,
    /// The `type` of the frame.
    pub kind: String,
    /// A JSON object as text: the other members of the frame. The broker sets `type` and `channel`.
    pub payload: String,
}

impl Signal {
    /// Creates a frame for everyone in the channel.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if the JSON form of the payload is not an object.
    pub fn to_channel(kind: impl Into<String>, payload: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { audience: Audience::Channel, kind: kind.into(), payload: to_object(payload)? })
    }

    /// Creates a frame for the sessions of the member who caused the event.
    ///
    /// # Errors
    ///
    /// As [`Signal::to_channel`].
    pub fn to_sender(kind: impl Into<String>, payload: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { audience: Audience::Sender, ..Self::to_channel(kind, payload)? })
    }

    /// Creates a frame for members of the channel, by id. Those who are not in the channel receive nothing.
    ///
    /// # Errors
    ///
    /// As [`Signal::to_channel`].
    pub fn to_users(
        ids: impl IntoIterator<Item: Into<String>>,
        kind: impl Into<String>,
        payload: &impl Serialize,
    ) -> Result<Self, Failure> {
        let ids = ids.into_iter().map(Into::into).collect();
        Ok(Self { audience: Audience::Users(ids), ..Self::to_channel(kind, payload)? })
    }

    /// Sends it to everyone in the channel except the member who caused the event, on any session.
    #[must_use]
    pub fn except_sender(self) -> Self {
        Self { audience: Audience::ChannelExceptSender, ..self }
    }
}

/// The sessions of the channel that receive a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All sessions.
    Channel,
    /// All sessions except those of the member who caused the event.
    ChannelExceptSender,
    /// The sessions of these members, by id.
    Users(Vec<String>),
    /// The sessions of the member who caused the event.
    Sender,
}

fn to_object(value: &impl Serialize) -> Result<String, Failure> {
    let json = to_json(value)?;
    if json.starts_with('{') {
        Ok(json)
    } else {
        Err(Failure::internal("a payload or an attachment must be a JSON object"))
    }
}

fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::internal(format!("failed to write JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn a_draft_holds_its_content_as_json() {
        let draft = Draft::new("note", "say \"hi\"").unwrap().reply_to("m1".to_owned());
        let draft = draft.attachments([json!({ "url": "a" }), json!({})]).unwrap();
        assert_eq!(draft.content, r#""say \"hi\"""#);
        assert_eq!(draft.reply_to.as_deref(), Some("m1"));
        assert_eq!(draft.attachments, [r#"{"url":"a"}"#, "{}"]);
        assert_eq!(draft.reply_to(None).reply_to, None);
    }

    #[test]
    fn a_write_holds_its_condition() {
        let write = KvWrite::json("votes", &json!([1])).unwrap().ends_after(Duration::from_secs(2));
        assert_eq!((write.value.as_deref(), write.ttl_ms), (Some(b"[1]".as_slice()), Some(2_000)));
        assert_eq!(write.expected, None, "whatever stands there");
        let entry = KvEntry { key: "votes".to_owned(), value: vec![], version: 7 };
        assert_eq!(write.clone().if_unchanged(Some(&entry)).expected, Some(7));
        assert_eq!(write.if_unchanged(None).expected, Some(0), "it was not there");
        assert_eq!(KvWrite::remove("votes").value, None);
    }

    #[test]
    fn what_must_be_an_object_is_one() {
        assert!(matches!(Signal::to_channel("x", &json!([1])), Err(Failure::Internal(_))));
        assert!(matches!(Draft::new("x", &1).unwrap().attachments(["a"]), Err(Failure::Internal(_))));
        let keys_are_lists = std::collections::HashMap::from([(vec![1], 1)]);
        assert!(matches!(Draft::new("x", &keys_are_lists), Err(Failure::Internal(_))));
    }

    #[test]
    fn a_signal_knows_its_audience() {
        let to_users = Signal::to_users(["1", "2"], "x", &json!({})).unwrap();
        assert_eq!(to_users.audience, Audience::Users(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(Signal::to_sender("x", &json!({})).unwrap().audience, Audience::Sender);
        let others = Signal::to_channel("x", &json!({})).unwrap().except_sender();
        assert_eq!(others.audience, Audience::ChannelExceptSender);
    }
}
