//! Names and ids that are valid by construction.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

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
    /// A tenant's short name: 1 to 48 of `a-z 0-9 _ -`, starting with a letter or digit. With its prefix it fits the 63
    /// bytes of a Postgres identifier, and it is safe as a file name.
    TenantSlug,
    |text| {
        let bytes = text.as_bytes();
        (1..=48).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    },
    "must be 1 to 48 of a-z, 0-9, _ and -, and start with a letter or a digit"
}

text_id! {
    /// A member's id, unique within the tenant: 1 to 64 characters without control characters. A number in a token
    /// becomes its decimal digits.
    UserId,
    |text| is_printable(text, 64),
    "must be 1 to 64 characters without control characters"
}

text_id! {
    /// A member's name, unique within the tenant: 1 to 150 characters (Django's bound) without control characters.
    Username,
    |text| is_printable(text, 150),
    "must be 1 to 150 characters without control characters"
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
        for good in ["acme", "a", "0a", "acme-corp_2", &"x".repeat(48)] {
            assert!(good.parse::<TenantSlug>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "Acme", "a b", "a\"b", "a;b", "../a", "a.b", "a\0", "ü", &"x".repeat(49)] {
            assert!(bad.parse::<TenantSlug>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_count_characters_not_bytes() {
        assert!("ü".repeat(64).parse::<ClientId>().is_ok());
        assert!("ü".repeat(65).parse::<ClientId>().is_err());
        assert!("a\u{0}".parse::<UserId>().is_err());
        assert!("".parse::<UserId>().is_err());
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
