//! What a handler is given: the event, who caused it, and messages of the channel's past.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, payload};

/// Something that happened in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One of the kinds that the plugin named.
    pub kind: String,
    /// A JSON object as text: the client's frame as it was sent, `type` and `id` included, at most 64 KiB; for a
    /// notice of the broker, such as `user.join`, an empty object. [`Event::payload`] reads it.
    pub json: String,
    /// Where it comes from.
    pub context: Context,
}

impl Event {
    /// Reads the payload as a type of the plugin. Members of the frame that the type does not name are ignored.
    ///
    /// # Errors
    ///
    /// [`Failure::Invalid`] when the payload does not fit the type. Its text names the field and what was expected of
    /// it and repeats nothing of what the client wrote there; an error made by a `Deserialize` of the plugin's own
    /// goes to the client word for word.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        payload::read(&self.json)
    }
}

/// Where an event comes from. All of it is the broker's own knowledge, none of it the client's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The tenant's short name.
    pub tenant: String,
    /// The channel's id, a UUID.
    pub channel: String,
    /// Who caused the event. The broker has found this member to be in the channel.
    pub user: User,
    /// The socket it came in on; none when it came over HTTP, and none for [`Handler::stored`](crate::Handler::stored).
    pub session: Option<String>,
    /// Unique for each event, and the same when the event is tried again. For a stored message it is the message's id.
    pub event_id: String,
    /// When the broker took the event in: milliseconds since 1970-01-01T00:00:00Z. It is the same when the event is tried
    /// again. For a stored message it is when it was stored.
    pub now_ms: u64,
}

/// A member of the tenant, in JSON as frames carry it: `{"id","username"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct User {
    /// Unique within the tenant, never reused.
    pub id: String,
    /// The name other members see.
    pub username: String,
}

/// A message that is stored in the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique in the tenant.
    pub id: String,
    /// Its place in the channel: 1, 2, 3 … without a gap.
    pub seq: u64,
    /// The kind that its handler gave it.
    pub kind: String,
    /// Who said it.
    pub sender: User,
    /// Any JSON value, as text; `null` when it was deleted. [`Message::content`] reads it.
    pub content: String,
    /// The message of the same channel that this one answers.
    pub reply_to: Option<String>,
    /// JSON objects as text, one an attachment.
    pub attachments: Vec<String>,
    /// When it was stored: milliseconds since 1970-01-01T00:00:00Z, as the following.
    pub created_at_ms: u64,
    /// When its content was last changed.
    pub edited_at_ms: Option<u64>,
    /// When it was deleted.
    pub deleted_at_ms: Option<u64>,
}

impl Message {
    /// Reads the content as a type of the plugin; `None` when it does not fit.
    pub fn content<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.content).ok()
    }
}

/// A key of the plugin's own with its value, as it was last committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: String,
    /// Its value. [`KvEntry::json`] reads it.
    pub value: Vec<u8>,
    /// At least 1. It grows with each write of the key, and is never given twice, also when the key was gone in between.
    pub version: u64,
}

impl KvEntry {
    /// Reads the value as a type of the plugin.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] when it does not fit: another version of the plugin wrote it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let read = serde_json::from_slice(&self.value);
        read.map_err(|error| Failure::internal(format!("failed to read the key `{}`: {error}", self.key)))
    }
}
