//! The types of the system: ids, members, channels, messages, events and effects.
//!
//! Nothing here does I/O, asks for the time, or knows a dependency's wire format. A name or id that exists is valid:
//! parsing is the only way to make one, so no later layer checks it again.

mod address;
pub mod catalogue;
mod clock;
mod columns;
mod ids;
pub mod json;
mod names;

pub use address::ClientAddress;
pub use clock::{Clock, Timestamp};
pub use ids::{
    ChannelId, ClientId, Digest, Epoch, InvalidId, Kind, MessageId, PluginName, RequestKey, SessionId, TenantSlug,
    UserId, Username,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A unit of isolation. Its slug names its schema, its bus channels and its plugins' state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The short name that operators type and that tokens carry as `schema_name`.
    pub slug: TenantSlug,
    /// What tokens carry as `tenant_id`. If the operator set it, a token with a different one is refused.
    pub external_id: Option<String>,
    /// A disabled tenant refuses every token.
    pub enabled: bool,
    pub created_at: Timestamp,
    /// Tokens issued before this are refused.
    pub tokens_since: Option<Timestamp>,
    /// Grows whenever somebody of the tenant may have lost a right.
    pub revision: u64,
}

/// A member of a tenant, as other members see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// What tokens carry as `user_id`.
    pub id: UserId,
    /// Unique within the tenant.
    pub username: Username,
}

/// The bearer of a token.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The only tenant that this principal can reach.
    pub tenant: TenantSlug,
    /// The member, known to the store.
    pub user: User,
    /// When the token expires.
    pub expires_at: Timestamp,
    pub token: TokenId,
    /// The tenant's revision before the token was checked. A later one means that it must be checked again.
    pub revision: u64,
}

/// What a token says of itself by which it can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenId {
    pub issued_at: Option<Timestamp>,
    /// Names this token.
    pub jti: Option<String>,
    /// Names the log-in that it derives from, if the broker knows.
    pub family: Option<String>,
}

/// Whether a member may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    Active,
    /// Every token is refused until the operator enables the member again.
    Disabled,
    /// Out for good. The row stays, because messages refer to it.
    Deleted,
}

impl MemberState {
    /// The word used in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberState::Active => "active",
            MemberState::Disabled => "disabled",
            MemberState::Deleted => "deleted",
        }
    }

    /// Parses the stored word. Anything unknown is out.
    pub fn from_stored(word: &str) -> Self {
        match word {
            "active" => MemberState::Active,
            "disabled" => MemberState::Disabled,
            _ => MemberState::Deleted,
        }
    }
}

/// A member's rights in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May add and remove members.
    Owner,
    /// May read, write and leave.
    Member,
}

impl Role {
    /// The word used in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Member => "member",
        }
    }

    /// Parses the stored word. Anything but `owner` gets the lesser rights.
    pub fn from_stored(word: &str) -> Self {
        if word == "owner" { Role::Owner } else { Role::Member }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Never reused, not even by another tenant.
    pub id: ChannelId,
    /// The display name: 1 to 150 characters, not necessarily unique.
    pub name: String,
    /// Names one gapless numbering of `seq`. A position of another epoch means nothing here.
    pub epoch: Epoch,
    /// The number of the last durable message; 0 if there is none.
    pub seq: u64,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMember {
    pub user: User,
    pub role: Role,
    pub joined_at: Timestamp,
}

/// A durable message, as stored, in frames and over HTTP.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    /// Unique within the tenant.
    pub id: MessageId,
    pub channel: ChannelId,
    /// Its place in the channel: 1, 2, 3 … without a gap.
    pub seq: u64,
    /// The kind its handler gave it, such as `chat.message`.
    pub kind: Kind,
    pub sender: User,
    /// Any JSON value; its handler decides the form.
    pub content: Box<RawValue>,
    /// The message it replies to, in the same channel.
    pub reply_to: Option<MessageId>,
    /// A JSON array of objects.
    pub attachments: Box<RawValue>,
    pub created_at: Timestamp,
    pub edited_at: Option<Timestamp>,
    /// When it was deleted. Its content is then `null`.
    pub deleted_at: Option<Timestamp>,
    /// Members who have read it, without the sender: at most [`Message::MAX_READERS`].
    pub read_by: Vec<UserId>,
}

impl Message {
    /// Readers listed with a message. Without a limit, a page of history in a channel of thousands would take
    /// megabytes.
    pub const MAX_READERS: usize = 100;
}

/// Something that a client or the broker reports; a handler decides what follows.
#[derive(Debug, Clone)]
pub struct Event {
    /// Selects the handler.
    pub kind: Kind,
    /// A JSON object: the client's frame as sent, or the broker's notice.
    pub payload: String,
    /// The sender was verified to be in this channel.
    pub channel: ChannelId,
    pub user: User,
    /// `None` for an event that came over HTTP.
    pub session: Option<SessionId>,
    /// The client's idempotency key.
    pub client_id: Option<ClientId>,
    /// Unique to each event.
    pub id: MessageId,
    /// When the broker received it.
    pub at: Timestamp,
}

impl Event {
    /// An event that happens now and belongs to no session.
    pub fn now(kind: Kind, payload: String, channel: ChannelId, user: User, clock: &Clock) -> Self {
        let (id, at) = (MessageId(clock.uuid()), clock.now());
        Self { kind, payload, channel, user, session: None, client_id: None, id, at }
    }

    /// The context in which a post-commit hook is told of a stored message: its effects are those of the message's sender,
    /// at the time of the message.
    pub fn of_stored(message: &Message) -> Self {
        Self {
            kind: message.kind.clone(),
            payload: "{}".to_owned(),
            channel: message.channel,
            user: message.sender.clone(),
            session: None,
            client_id: None,
            id: message.id,
            at: message.created_at,
        }
    }
}

/// What a handler asks for. All effects of an event are applied, or none.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Stores a message under the next `seq`.
    Store(Draft),
    /// Changes a message that is already in the channel.
    Amend(Amendment),
    /// Records that the sender has read everything up to a message.
    MarkRead(ReadUpTo),
    /// Changes one of the plugin's own keys.
    KvPut(KvWrite),
    /// Sends a frame to sessions connected now, and stores nothing.
    Broadcast(Signal),
}

/// A message without an id and a `seq` yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The `type` of the frame that carries it.
    pub kind: Kind,
    /// Any JSON value.
    pub content: Box<RawValue>,
    /// Must be a message of the same channel.
    pub reply_to: Option<MessageId>,
    /// A JSON array of objects.
    pub attachments: Box<RawValue>,
}

/// A change to a stored message. It has no frame of its own: clients learn of it, even after a reconnect, from a
/// message stored along with it.
#[derive(Debug, Clone)]
pub struct Amendment {
    /// Must be a message of the same channel.
    pub message: MessageId,
    /// The new content, any JSON value. `None` deletes the message: it keeps its place and loses its content and
    /// attachments for good.
    pub content: Option<Box<RawValue>>,
}

/// A change to one of a plugin's keys in a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    /// 1 to [`KvWrite::MAX_KEY`] bytes, without U+0000.
    pub key: String,
    /// At most [`KvWrite::MAX_VALUE`] bytes; `None` removes the key.
    pub value: Option<Vec<u8>>,
    /// When it expires by itself.
    pub expires_at: Option<Timestamp>,
    /// The version that the key must have, or none of the event's effects is applied; 0 means that it must not exist.
    pub expected: Option<u64>,
}

impl KvWrite {
    /// Bytes of a key.
    pub const MAX_KEY: usize = 256;
    /// Bytes of a value.
    pub const MAX_VALUE: usize = 64 << 10;
    /// Keys of a plugin in a tenant.
    pub const MAX_KEYS: u64 = 100_000;
    /// Bytes of all keys and values of a plugin in a tenant.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// Whether a text can be a key. Postgres cannot store U+0000 in a text.
    pub fn is_key(text: &str) -> bool {
        (1..=Self::MAX_KEY).contains(&text.len()) && !text.contains('\0')
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    pub key: String,
    pub value: Vec<u8>,
    /// At least 1. Grows with each write of the key and is never reused, even if the key was gone in between.
    pub version: u64,
}

/// The sender has read up to and including a message.
#[derive(Debug, Clone)]
pub struct ReadUpTo {
    /// The `type` of the frame that tells the others.
    pub kind: Kind,
    /// Must be a message of the same channel.
    pub message: MessageId,
}

/// An ephemeral frame.
#[derive(Debug, Clone)]
pub struct Signal {
    pub audience: Audience,
    /// The `type` of the frame.
    pub kind: Kind,
    /// A JSON object: the frame's other members.
    pub payload: Box<RawValue>,
}

/// Which of a channel's sessions get a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    Channel,
    /// Everyone except one member, on all of that member's sessions.
    Except(UserId),
    /// Only these members, as far as they are in the channel.
    Users(Vec<UserId>),
}

impl Audience {
    pub fn includes(&self, user: &UserId) -> bool {
        match self {
            Audience::Channel => true,
            Audience::Except(sender) => sender != user,
            Audience::Users(users) => users.contains(user),
        }
    }
}

/// A channel with its tenant, as the bus, presence and the hub identify it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    pub tenant: TenantSlug,
    pub channel: ChannelId,
}

impl std::fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.tenant, self.channel)
    }
}

/// The place of a channel's last durable message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub channel: ChannelId,
    pub epoch: Epoch,
    pub seq: u64,
}
