//! What a handler may ask the broker to do.
//!
//! Nothing here acts: an effect is a value, and the broker applies all effects of an event or none.

use serde::Serialize;

use crate::Failure;

/// What a handler asks the broker to do. At most 64 an event, of 256 KiB together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Keep a message and send it to the channel.
    Store(Draft),
    /// Note that the sender of the event has read everything up to and including a message.
    MarkRead(ReadMark),
    /// Send a frame to the sessions that are here now, and keep nothing.
    Broadcast(Signal),
}

impl Effect {
    /// Keeps a message and sends it to the channel.
    pub fn store(draft: Draft) -> Self {
        Self::Store(draft)
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
