//! What a handler may ask the broker to do.
//!
//! Nothing here acts: an effect is a value, and the broker applies all effects of an event or none.

use std::time::Duration;

use serde::Serialize;

use crate::{Failure, KvEntry};

/// What a handler asks the broker to do. At most 64 an event, of 256 KiB together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Keep a message and send it to the channel.
    Store(Draft),
    /// Change or delete a message of the channel that was stored before.
    Amend(Amendment),
    /// Note that the sender of the event has read everything up to and including a message.
    MarkRead(ReadMark),
    /// Change one of the plugin's own keys.
    KvPut(KvWrite),
    /// Send a frame to the sessions that are here now, and keep nothing.
    Broadcast(Signal),
}

impl Effect {
    /// Keeps a message and sends it to the channel.
    pub fn store(draft: Draft) -> Self {
        Self::Store(draft)
    }

    /// Gives a message of the channel a new content. It has no frame of its own: store a draft beside it, so that whoever
    /// was away learns of it as well. Whether the sender may do that is for the handler to check.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] when the content has no JSON form.
    pub fn amend(message_id: impl Into<String>, content: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        Ok(Self::Amend(Amendment { message_id: message_id.into(), content: Some(to_json(content)?) }))
    }

    /// Deletes a message of the channel: it keeps its place, and its content and attachments are gone for good. What
    /// stands at [`Effect::amend`] about frames and about who may holds here, too.
    pub fn delete(message_id: impl Into<String>) -> Self {
        Self::Amend(Amendment { message_id: message_id.into(), content: None })
    }

    /// Changes one of the plugin's own keys.
    pub fn kv_put(write: KvWrite) -> Self {
        Self::KvPut(write)
    }

    /// Notes that the sender of the event has read everything up to and including a message of its channel. The
    /// channel is told with a frame of type `kind`, unless the mark was there or further on already.
    pub fn mark_read(kind: impl Into<String>, message_id: impl Into<String>) -> Self {
        Self::MarkRead(ReadMark { kind: kind.into(), message_id: message_id.into() })
    }

    /// Sends a frame to the sessions that are here now, and keeps nothing.
    pub fn broadcast(signal: Signal) -> Self {
        Self::Broadcast(signal)
    }
}

/// A message to keep. The broker gives it an id, the next `seq` of its channel and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The `type` of the frame that carries it.
    pub kind: String,
    /// Any JSON value, as text.
    pub content: String,
    /// The id of a message of the same channel that this one answers.
    pub reply_to: Option<String>,
    /// JSON objects as text, one an attachment.
    pub attachments: Vec<String>,
}

impl Draft {
    /// A message whose content is any value that has a JSON form.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] when the value has no JSON form, such as a map whose keys are no texts.
    pub fn new(kind: impl Into<String>, content: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        Ok(Self { kind: kind.into(), content: to_json(content)?, reply_to: None, attachments: Vec::new() })
    }

    /// Makes this the answer to a message of the same channel; `None` makes it the answer to nothing.
    #[must_use]
    pub fn reply_to(self, message_id: impl Into<Option<String>>) -> Self {
        Self { reply_to: message_id.into(), ..self }
    }

    /// Attaches values that become JSON objects, in place of those attached before.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] when the JSON form of a value is not an object.
    pub fn attachments(self, attachments: impl IntoIterator<Item: Serialize>) -> Result<Self, Failure> {
        let attachments = attachments.into_iter().map(|one| to_object(&one)).collect::<Result<_, _>>()?;
        Ok(Self { attachments, ..self })
    }
}

/// A change of a message of the channel that was stored before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amendment {
    /// It must be in the channel of the event.
    pub message_id: String,
    /// The new content, any JSON value as text; `None` deletes the message.
    pub content: Option<String>,
}

/// A change of one of the plugin's own keys in the tenant of the event. Needs the grant of [`Want::Kv`](crate::Want::Kv).
///
/// To change what stands under a key, read it, and write with [`KvWrite::if_unchanged`]: when another event was first,
/// nothing of this one is applied, and the handler is called again and reads what stands there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    /// 1 to 256 bytes, without U+0000.
    pub key: String,
    /// At most 64 KiB; `None` removes the key.
    pub value: Option<Vec<u8>>,
    /// The key ends by itself so many milliseconds after the event.
    pub ttl_ms: Option<u64>,
    /// The version that the key must have; 0: it must not be there.
    pub expected: Option<u64>,
}

impl KvWrite {
    /// Puts bytes under a key.
    pub fn bytes(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: Some(value.into()), ttl_ms: None, expected: None }
    }

    /// Puts a value under a key, as JSON. [`KvEntry::json`] reads it.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] when the value has no JSON form.
    pub fn json(key: impl Into<String>, value: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        Ok(Self::bytes(key, to_json(value)?))
    }

    /// Removes a key.
    pub fn remove(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None, ttl_ms: None, expected: None }
    }

    /// Lets the key end by itself so long after the event; whole milliseconds count.
    #[must_use]
    pub fn ends_after(self, time: Duration) -> Self {
        Self { ttl_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// Only if the key still stands as it was read: with this entry's version, or, for `None`, not there.
    #[must_use]
    pub fn if_unchanged(self, read: Option<&KvEntry>) -> Self {
        Self { expected: Some(read.map_or(0, |entry| entry.version)), ..self }
    }
}

/// The sender of the event has read everything up to and including a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadMark {
    /// The `type` of the frame that tells the channel.
    pub kind: String,
    /// It must be in the channel of the event.
    pub message_id: String,
}

/// A frame for the sessions that are here now. It is the first thing that is dropped for a client that does not keep up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Who gets it.
    pub audience: Audience,
    /// The `type` of the frame.
    pub kind: String,
    /// A JSON object as text: the other members of the frame. The broker sets `type` and `channel` itself.
    pub payload: String,
}

impl Signal {
    /// A frame for everyone in the channel.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] when the JSON form of the payload is not an object.
    pub fn to_channel(kind: impl Into<String>, payload: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { audience: Audience::Channel, kind: kind.into(), payload: to_object(payload)? })
    }

    /// A frame for the sessions of the member who caused the event.
    ///
    /// # Errors
    ///
    /// As [`Signal::to_channel`].
    pub fn to_sender(kind: impl Into<String>, payload: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { audience: Audience::Sender, ..Self::to_channel(kind, payload)? })
    }

    /// A frame for members of the channel by id. Those that are not in it get nothing.
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

    /// Sends it to the whole channel but the member who caused the event, on whichever session.
    #[must_use]
    pub fn except_sender(self) -> Self {
        Self { audience: Audience::ChannelExceptSender, ..self }
    }
}

/// Which of the channel's sessions a signal is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All of them.
    Channel,
    /// All but those of the member who caused the event.
    ChannelExceptSender,
    /// Those of these members, by id.
    Users(Vec<String>),
    /// Those of the member who caused the event.
    Sender,
}

fn to_object(value: &impl Serialize) -> Result<String, Failure> {
    let json = to_json(value)?;
    if json.starts_with('{') { Ok(json) } else { Err(Failure::internal("a payload or an attachment is no object")) }
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
