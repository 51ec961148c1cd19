//! The words of the system as types: ids, members, channels, messages, events and effects.
//!
//! Nothing here does I/O, asks for the time or knows a wire format of a dependency. A value that exists is valid:
//! the constructors are the only way in, so no later layer has to check a slug or an id again.

mod address;
pub mod catalogue;
mod clock;
mod columns;
mod ids;
pub mod json;

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
    /// The short name that operators type and tokens carry as `schema_name`.
    pub slug: TenantSlug,
    /// What tokens carry as `tenant_id`. When the operator gave one, a token that carries another is refused.
    pub external_id: Option<String>,
    /// A disabled tenant refuses every token.
    pub enabled: bool,
    /// When the tenant was created.
    pub created_at: Timestamp,
}

/// A member of a tenant as other members see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// What tokens carry as `user_id`.
    pub id: UserId,
    /// Unique within the tenant.
    pub username: Username,
}

/// Who a token says its bearer is.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The only tenant this principal can reach.
    pub tenant: TenantSlug,
    /// The member, known to the store.
    pub user: User,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// What a member may do in a channel beyond taking part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May add and remove members.
    Owner,
    /// May read, write and leave.
    Member,
}

impl Role {
    /// The word that stands in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Member => "member",
        }
    }

    /// Reads the word back; anything but `owner` has the lesser rights.
    pub fn from_stored(word: &str) -> Self {
        if word == "owner" { Role::Owner } else { Role::Member }
    }
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Never reused, also not by another tenant.
    pub id: ChannelId,
    /// What people call it: 1 to 150 characters, not necessarily unique.
    pub name: String,
    /// Names one unbroken numbering of `seq`. A client that knows another epoch knows nothing of this one.
    pub epoch: Epoch,
    /// The number of the last durable message; 0 when there is none.
    pub seq: u64,
    /// When the channel was created.
    pub created_at: Timestamp,
}

/// A member of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMember {
    /// Who.
    pub user: User,
    /// With which rights.
    pub role: Role,
    /// Since when.
    pub joined_at: Timestamp,
}

/// A durable message as it stands in the store, and as it reads in frames and over HTTP.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    /// Unique in the tenant.
    pub id: MessageId,
    /// Where it was said.
    pub channel: ChannelId,
    /// Its place in the channel: 1, 2, 3 … without a gap.
    pub seq: u64,
    /// The kind its handler gave it, such as `chat.message`.
    pub kind: Kind,
    /// Who said it.
    pub sender: User,
    /// Any JSON value; its handler decides its form.
    pub content: Box<RawValue>,
    /// The message it answers, in the same channel.
    pub reply_to: Option<MessageId>,
    /// A JSON array of objects.
    pub attachments: Box<RawValue>,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted; the content is then `null`.
    pub deleted_at: Option<Timestamp>,
    /// Who has read it, the sender left out: at most [`Message::MAX_READERS`].
    pub read_by: Vec<UserId>,
}

impl Message {
    /// How many readers a message names. A channel of thousands would otherwise make a page of history megabytes.
    pub const MAX_READERS: usize = 100;
}

/// Something a client or the broker says has happened; a handler decides what follows from it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which handler is meant.
    pub kind: Kind,
    /// A JSON object: the client's frame as it was sent, or the broker's own notice.
    pub payload: String,
    /// The channel it happened in. The sender has been found to be in it.
    pub channel: ChannelId,
    /// Who caused it.
    pub user: User,
    /// On which socket; none for an event that came over HTTP.
    pub session: Option<SessionId>,
    /// The client's idempotency key.
    pub client_id: Option<ClientId>,
    /// Unique for each event.
    pub id: MessageId,
    /// When the broker took it in.
    pub at: Timestamp,
}

/// What a handler asks for. All effects of one event are applied, or none.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Keep a message and give it the next `seq`.
    Store(Draft),
    /// Change a message that is in the channel already.
    Amend(Amendment),
    /// Note that the sender has read everything up to a message.
    MarkRead(ReadUpTo),
    /// Change one of the plugin's own keys.
    KvPut(KvWrite),
    /// Send a frame to sessions that are here now, and keep nothing.
    Broadcast(Signal),
}

/// A message before the store has given it an id and a `seq`.
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

/// A change of a message that was stored before. It has no frame of its own: who is to hear of it, also after a
/// reconnect, hears of it by a message that is stored beside it.
#[derive(Debug, Clone)]
pub struct Amendment {
    /// Must be a message of the same channel.
    pub message: MessageId,
    /// The new content, any JSON value; `None` deletes the message, which keeps its place and loses its content and
    /// attachments for good.
    pub content: Option<Box<RawValue>>,
}

/// A change of one of a plugin's keys in a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    /// 1 to [`KvWrite::MAX_KEY`] bytes, without U+0000.
    pub key: String,
    /// At most [`KvWrite::MAX_VALUE`] bytes; `None` removes the key.
    pub value: Option<Vec<u8>>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// The version that the key must have for any of the event's effects to be applied; 0: it must not be there.
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

    /// Whether a text can be a key. U+0000 is what Postgres keeps in no text.
    pub fn is_key(text: &str) -> bool {
        (1..=Self::MAX_KEY).contains(&text.len()) && !text.contains('\0')
    }
}

/// A key's value, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// At least 1. It grows with each write of the key and is never given twice, also when the key was gone in between.
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
    /// Who gets it.
    pub audience: Audience,
    /// The `type` of the frame.
    pub kind: Kind,
    /// A JSON object: the frame's other members.
    pub payload: Box<RawValue>,
}

/// Which of a channel's sessions a frame is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// Everyone in the channel.
    Channel,
    /// Everyone but one member, on any of that member's sessions.
    Except(UserId),
    /// These members only, as far as they are in the channel.
    Users(Vec<UserId>),
}

impl Audience {
    /// Whether a session of this member gets the frame.
    pub fn includes(&self, user: &UserId) -> bool {
        match self {
            Audience::Channel => true,
            Audience::Except(sender) => sender != user,
            Audience::Users(users) => users.contains(user),
        }
    }
}

/// A channel of a tenant: what the bus, presence and the hub know a conversation by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    /// Whose.
    pub tenant: TenantSlug,
    /// Which.
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
    /// Which channel.
    pub channel: ChannelId,
    /// Which numbering.
    pub epoch: Epoch,
    /// The last number given.
    pub seq: u64,
}
