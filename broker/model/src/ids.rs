//! Names and ids that are valid by construction.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::names;

/// Why a text is not a valid name or id. States what is allowed and does not repeat the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(&'static str);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidId($rule)) }
            }
        }

        text_traits!($name);
    };
}

/// A text that people read and write: two that look the same should be the same.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $most:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A name that was stored, perhaps by a version with other rules: they must not keep a known member out.
            pub fn from_stored(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Brings the text into normal form C.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let text = names::normalized(text);
                if names::is_name(&text, $most) { Ok(Self(text.into())) } else { Err(InvalidId($rule)) }
            }
        }

        text_traits!($name);
    };
}

macro_rules! text_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self).map_err(|_| InvalidId("must be a UUID"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

fn is_printable(text: &str, max_chars: usize) -> bool {
    !text.is_empty() && text.chars().count() <= max_chars && !text.chars().any(char::is_control)
}

text_id! {
    /// A tenant's short name: 1 to 63 of `A-Z a-z 0-9 _ . -`, not starting with a dot or a dash. That includes the schema
    /// names of django-tenants. It needs no escape in a quoted Postgres identifier and cannot leave a folder; it may be too
    /// long for an identifier with a prefix.
    TenantSlug,
    |text| {
        let bytes = text.as_bytes();
        (1..=63).contains(&bytes.len())
            && !matches!(bytes[0], b'.' | b'-')
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    },
    "must be 1 to 63 of A-Z, a-z, 0-9, _, . and -, and start with a letter, a digit or _"
}

name! {
    /// A member's id, unique within the tenant: 1 to 64 characters in normal form C, at least one of them visible, and none
    /// that controls how others are shown. A number in a token becomes its decimal digits.
    UserId, 64,
    "must be 1 to 64 characters, at least one of them visible, without control and direction characters"
}

name! {
    /// A member's name, unique within the tenant: 1 to 150 characters (Django's bound) under the rules of [`UserId`].
    Username, 150,
    "must be 1 to 150 characters, at least one of them visible, without control and direction characters"
}

text_id! {
    /// The id that a client gives its frame, its idempotency key: 1 to 64 characters without control characters.
    ClientId,
    |text| is_printable(text, 64),
    "must be 1 to 64 characters without control characters"
}

/// The key under which a commit is remembered, so that it is applied once however often it is requested. Unique for
/// (tenant, sender).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey(Arc<str>);

impl RequestKey {
    /// The key for effects that a plugin asks for after a message was stored: the same however often it is called. It
    /// starts with a control character, which no client's id can contain.
    pub fn stored(message: MessageId, plugin: &PluginName) -> Self {
        Self(format!("\u{1}stored:{message}:{plugin}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ClientId> for RequestKey {
    fn from(id: ClientId) -> Self {
        Self(id.0)
    }
}

impl FromStr for RequestKey {
    type Err = InvalidId;

    /// A client's key.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse::<ClientId>().map(Self::from)
    }
}

text_id! {
    /// The type of a frame or message, such as `chat.message`: 1 to 64 of `a-z 0-9 . _ -`.
    Kind,
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
    },
    "must be 1 to 64 of a-z, 0-9, '.', _ and -"
}

text_id! {
    /// A plugin's name: 1 to 64 of `a-z 0-9 -`.
    PluginName,
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    },
    "must be 1 to 64 of a-z, 0-9 and -"
}

text_id! {
    /// The SHA-256 of a component: 64 lower-case hexadecimal digits.
    Digest,
    |text| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
    "must be 64 hexadecimal digits in lower case"
}

text_id! {
    /// Names one gapless numbering of a channel's messages.
    Epoch,
    |text| is_printable(text, 64),
    "must be 1 to 64 characters without control characters"
}

uuid_id! {
    /// A channel's id.
    ChannelId
}

uuid_id! {
    /// A message's id. Version 7, so that newer ones sort later in an index.
    MessageId
}

uuid_id! {
    /// Identifies one live socket.
    SessionId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_cannot_leave_its_schema_or_its_folder() {
        for good in ["acme", "a", "0a", "acme-corp_2", "_a", "Acme", "a.b", "a..b", &"x".repeat(63)] {
            assert!(good.parse::<TenantSlug>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "a\"b", "a;b", "../a", "a/b", ".", "..", ".a", "a\0", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<TenantSlug>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_count_characters_not_bytes() {
        assert!("ü".repeat(64).parse::<ClientId>().is_ok());
        assert!("ü".repeat(65).parse::<ClientId>().is_err());
        assert!("a\u{0}".parse::<UserId>().is_err());
        assert!("".parse::<UserId>().is_err());
        assert!(" ".parse::<Username>().is_err());
        assert_eq!("e\u{301}".parse::<Username>().unwrap().as_str(), "é");
        assert_eq!(Username::from_stored("\u{202e}eve").as_str(), "\u{202e}eve", "what was stored before is read");
    }

    #[test]
    fn no_client_can_send_a_key_of_the_broker() {
        let message = MessageId(Uuid::nil());
        let of = |plugin: &str| RequestKey::stored(message, &plugin.parse().unwrap());
        assert!(of("bot").as_str().parse::<ClientId>().is_err());
        assert!(of("bot").as_str().parse::<RequestKey>().is_err());
        assert_ne!(of("bot"), of("bot-2"));
    }
}
