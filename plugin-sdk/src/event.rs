//! What a handler receives: the event, who caused it, and earlier messages of the channel.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, payload};

/// Something that happened in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One of the kinds that the plugin handles.
    pub kind: String,
    /// A JSON object as text: the client's frame exactly as sent, including `type` and `id`, at most 64 KiB; for a
    /// notice of the broker, such as `user.join`, an empty object. [`Event::payload`] reads it.
    pub json: String,
    /// Where it comes from.
    pub context: Context,
}

impl Event {
    /// Deserializes the payload into a type of the plugin. Members of the frame that the type does not name are ignored.
    ///
    /// # Errors
    ///
    /// [`Failure::Invalid`] if the payload does not match the type. Its text names the field and what was expected, and
    /// repeats nothing that the client wrote there; an error from a custom `Deserialize` of the plugin goes to the
    /// client word for word.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        payload::read(&self.json)
    }
}

/// Where an event comes from. All of this is what the broker knows, not what the client claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The tenant's slug.
    pub tenant: String,
    /// The channel's id, a UUID.
    pub channel: String,
    /// Who caused the event. The broker has checked that this member is in the channel.
    pub user: User,
    /// The session that sent it; none if it came over HTTP, and none for [`Handler::stored`](crate::Handler::stored).
    pub session: Option<String>,
    /// Unique for each event, and the same at each retry of the event. For a stored message it is the message's id.
    pub event_id: String,
    /// When the broker received the event, in milliseconds since 1970-01-01T00:00:00Z; the same at each retry of the
    /// event. For a stored message it is the time when it was stored.
    pub now_ms: u64,
}

/// A member of the tenant. Its JSON form is the one in frames: `{"id","username"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct User {
    /// Unique within the tenant, never reused.
    pub id: String,
    /// The name that other members see.
    pub username: String,
}

/// A stored message of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique in the tenant.
    pub id: String,
    /// Its place in the channel: 1, 2, 3 … without gaps.
    pub seq: u64,
    /// The kind that its handler gave it.
    pub kind: String,
    /// The member who sent it.
    pub sender: User,
    /// Any JSON value, as text; `null` if the message was deleted. [`Message::content`] reads it.
    pub content: String,
    /// The message of the same channel that this one replies to.
    pub reply_to: Option<String>,
    /// JSON objects as text, one per attachment.
    pub attachments: Vec<String>,
    /// When it was stored, in milliseconds since 1970-01-01T00:00:00Z, like the following times.
    pub created_at_ms: u64,
    /// When its content was last changed.
    pub edited_at_ms: Option<u64>,
    /// When it was deleted.
    pub deleted_at_ms: Option<u64>,
}

impl Message {
    /// Deserializes the content into a type of the plugin; `None` if it does not match.
    pub fn content<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.content).ok()
    }
}

/// One of the plugin's own keys, with its last committed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: String,
    /// Its value. [`KvEntry::json`] reads it.
    pub value: Vec<u8>,
    /// At least 1. It grows with each write of the key and is never reused, even if the key was removed in between.
    pub version: u64,
}

impl KvEntry {
    /// Deserializes the value into a type of the plugin.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if it does not match, for example because another version of the plugin wrote it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let read = serde_json::from_slice(&self.value);
        read.map_err(|error| Failure::internal(format!("failed to read the key `{}`: {error}", self.key)))
    }
}
