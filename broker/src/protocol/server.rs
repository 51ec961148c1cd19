//! The frames that the broker sends.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{ErrorCode, Refusal};
use crate::model::{
    Channel, ChannelId, ChannelMember, ClientId, Epoch, Kind, Message, MessageId, Role, SessionId, Timestamp, User,
    UserId, Username,
};

macro_rules! frames {
    ($($(#[$doc:meta])* $name:ident$(<$life:lifetime>)? = $tag:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Serialize)]
            #[serde(tag = "type", rename = $tag)]
            pub struct $name$(<$life>)? {
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*
    };
}

frames! {
    /// The first frame on a socket for many channels.
    Welcome<'a> = "welcome" {
        /// This socket.
        session: SessionId,
        /// Who the token says you are.
        user: &'a User,
        /// Seconds until the token ends.
        ttl: u64,
        /// Seconds between the broker's pings.
        ping: u64,
        /// The largest frame the broker takes, in bytes.
        max_bytes: usize,
    }

    /// What a channel looks like at the moment of joining.
    ChannelState<'a> = "channel.state" {
        /// The channel.
        channel: ChannelInfo<'a>,
        /// Its members, at most [`super::STATE_MEMBERS`].
        members: Vec<MemberInfo<'a>>,
        /// Its newest messages, oldest first.
        messages: &'a [Message],
        /// The numbering of `seq`.
        epoch: &'a Epoch,
        /// The last number given. Everything after it follows as frames.
        seq: u64,
    }

    /// A channel was joined on a socket for many.
    Subscribed<'a> = "subscribed" {
        /// Which.
        channel: ChannelId,
        /// The numbering of `seq`.
        epoch: &'a Epoch,
        /// Everything up to here has been sent.
        seq: u64,
        /// `true`: everything after the position that the client gave has been sent, instead of the channel's state.
        recovered: bool,
    }

    /// A channel was left on a socket for many.
    Unsubscribed = "unsubscribed" {
        /// Which.
        channel: ChannelId,
    }

    /// The answer to a `ping` frame.
    Pong = "pong" {}

    /// The answer to a frame with an `id`: for a durable event, that it is stored.
    Ack<'a> = "ack" {
        /// The client's own.
        id: &'a ClientId,
        #[serde(skip_serializing_if = "Option::is_none")]
        /// The message that was stored.
        message_id: Option<MessageId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        /// Where.
        channel: Option<ChannelId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        /// The numbering of `seq`.
        epoch: Option<&'a Epoch>,
        #[serde(skip_serializing_if = "Option::is_none")]
        /// The message's number, or the channel's last one when nothing was stored.
        seq: Option<u64>,
        /// When.
        created_at: Timestamp,
        /// Whether the same frame was acknowledged before.
        duplicate: bool,
    }
}

/// A durable message. Its `type` is the kind that its handler gave it.
#[derive(Debug, Serialize)]
pub struct MessageFrame<'a> {
    /// The message's kind.
    #[serde(rename = "type")]
    pub kind: &'a Kind,
    /// Where.
    pub channel: ChannelId,
    /// Its place in the channel.
    pub seq: u64,
    /// All of it.
    pub message: &'a Message,
}

/// Someone has read up to a message. Its `type` is the kind that the handler gave it.
#[derive(Debug, Serialize)]
pub struct Reading<'a> {
    /// The kind of the mark.
    #[serde(rename = "type")]
    pub kind: &'a Kind,
    /// Where.
    pub channel: ChannelId,
    /// The message's place in the channel.
    pub seq: u64,
    /// Who.
    pub user: &'a User,
    /// Up to and including this message.
    pub message_id: MessageId,
    /// When.
    pub read_at: Timestamp,
}

/// An ephemeral frame: `type` and `channel` are the broker's, the rest is the handler's.
#[derive(Debug)]
pub struct Notice<'a> {
    /// The signal's kind.
    pub kind: &'a Kind,
    /// Where.
    pub channel: ChannelId,
    /// A JSON object.
    pub payload: &'a RawValue,
}

impl Serialize for Notice<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeMap};

        let payload: std::collections::BTreeMap<String, &RawValue> =
            serde_json::from_str(self.payload.get()).map_err(S::Error::custom)?;
        let mut map = serializer.serialize_map(Some(payload.len() + 2))?;
        map.serialize_entry("type", self.kind)?;
        map.serialize_entry("channel", &self.channel)?;
        for (name, value) in payload.iter().filter(|(name, _)| !matches!(name.as_str(), "type" | "channel")) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A frame was refused.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "error")]
pub struct ErrorFrame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelId>,
    code: ErrorCode,
    name: &'static str,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
}

impl<'a> ErrorFrame<'a> {
    /// The frame for a refusal, answering the frame of that id.
    pub fn new(id: Option<&'a ClientId>, refusal: &'a Refusal) -> Self {
        Self {
            id,
            channel: None,
            code: refusal.code,
            name: refusal.code.name(),
            message: &refusal.message,
            retryable: refusal.code.retryable(),
            retry_after_ms: refusal.retry_after_ms,
        }
    }

    /// The frame for something that went wrong with a channel and answers no frame.
    pub fn of(channel: ChannelId, refusal: &'a Refusal) -> Self {
        Self { channel: Some(channel), ..Self::new(None, refusal) }
    }
}

/// A channel in `channel.state`.
#[derive(Debug, Serialize)]
pub struct ChannelInfo<'a> {
    /// Its id.
    pub id: ChannelId,
    /// Its name.
    pub name: &'a str,
    /// How many members it has.
    pub member_count: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

impl<'a> ChannelInfo<'a> {
    /// The channel with its number of members.
    pub fn new(channel: &'a Channel, member_count: u64) -> Self {
        Self { id: channel.id, name: &channel.name, member_count, created_at: channel.created_at }
    }
}

/// A member in `channel.state`.
#[derive(Debug, Serialize)]
pub struct MemberInfo<'a> {
    id: &'a UserId,
    username: &'a Username,
    role: Role,
    online: bool,
}

impl<'a> MemberInfo<'a> {
    /// The member, and whether it has a session in the channel now.
    pub fn new(member: &'a ChannelMember, online: bool) -> Self {
        Self { id: &member.user.id, username: &member.user.username, role: member.role, online }
    }
}

/// The same frame with the sender's own id in it, for the socket it came from. The frame is not encoded again: the name
/// goes in before the last brace.
pub fn with_client_id(frame: &[u8], id: &ClientId) -> Vec<u8> {
    let (body, brace) = frame.split_at(frame.len() - 1);
    debug_assert_eq!(brace, b"}", "a frame is a JSON object");
    let mut out = Vec::with_capacity(frame.len() + id.as_str().len() + 20);
    out.extend_from_slice(body);
    out.extend_from_slice(b",\"client_id\":");
    serde_json::to_writer(&mut out, id).expect("a string is always JSON");
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_notice_cannot_pose_as_another_type_or_channel() {
        let channel = ChannelId(uuid::Uuid::nil());
        let payload = RawValue::from_string(r#"{"type":"ack","channel":"x","is_typing":true}"#.to_owned()).unwrap();
        let kind = "typing".parse().unwrap();
        let notice = Notice { kind: &kind, channel, payload: &payload };
        assert_eq!(
            serde_json::to_value(&notice).unwrap(),
            json!({"type": "typing", "channel": channel, "is_typing": true})
        );
    }

    #[test]
    fn the_senders_copy_differs_by_its_id_alone() {
        let id: ClientId = "a\"b".parse().unwrap();
        let copy = with_client_id(br#"{"type":"chat.message","seq":1}"#, &id);
        let value: serde_json::Value = serde_json::from_slice(&copy).unwrap();
        assert_eq!(value, json!({"type": "chat.message", "seq": 1, "client_id": "a\"b"}));
    }

    #[test]
    fn an_error_names_its_row() {
        let refusal = Refusal::unavailable();
        assert_eq!(
            serde_json::to_value(ErrorFrame::new(None, &refusal)).unwrap(),
            json!({"type": "error", "code": 108, "name": "unavailable", "retryable": true, "retry_after_ms": 1000,
                   "message": "the broker cannot reach its store; try again"})
        );
    }
}
