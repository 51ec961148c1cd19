//! What a plugin author implements, and how a plugin describes itself.

use crate::{Context, Effect, Event, Failure, Host, Message};

/// The answer of a handler: effects, of which the broker applies all or none, or the reason why it refuses the event.
pub type Outcome = Result<Vec<Effect>, Failure>;

/// A plugin: the handler of one or more kinds of events.
///
/// The broker keeps an instance warm and gives it many events, one after the other. It may end an instance at any time
/// and runs several side by side, so treat `self` as a cache, never as state.
pub trait Handler: Default + 'static {
    /// The plugin's name: 1 to 64 characters from `a-z`, `0-9` and `-`. Usually `env!("CARGO_PKG_NAME")`.
    const NAME: &'static str;

    /// A semantic version. Usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;

    /// The kinds of events that this plugin handles: at most 32, and at least one unless it watches. The broker calls it
    /// for no other kind.
    const KINDS: &'static [Kind];

    /// The kinds of messages after which the broker calls [`Handler::stored`], whichever plugin stores them: at most 32.
    const WATCHES: &'static [&'static str] = &[];

    /// The host interfaces that this plugin requires. A broker that lacks one of them refuses the plugin instead of
    /// failing its events later.
    const WANTS: &'static [Want] = &[];

    /// Called once per instance, before its first event.
    ///
    /// `config` is the operator's text for this plugin, empty if there is none.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration. The operator reads it, and the broker does not load the plugin.
    fn init(&mut self, config: &str) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// Called for each event of [`Handler::KINDS`], and called again with the same event if another event changed a key
    /// first. Its answer should depend only on the event and on what it reads.
    ///
    /// # Errors
    ///
    /// Why the handler refuses the event. The broker then stores and sends nothing; what the sender is told depends on
    /// the [`Failure`].
    fn handle(&mut self, event: Event, host: &impl Host) -> Outcome;

    /// The post-commit hook: called after a message of [`Handler::WATCHES`] was stored and its sender got the ack, so it
    /// can no longer refuse the message. Its effects apply in the name of the message's sender, who is `context.user`.
    ///
    /// It completes at most once, and is not called at all if a node dies first: what must never be missed belongs in
    /// [`Handler::handle`]. After a trap, a timeout, [`Failure::Retry`] or [`Failure::Internal`], the broker calls it
    /// again, up to three calls in total; what it stores is stored once. Messages that it stores are watched in turn, also
    /// by itself, at most three levels deep.
    ///
    /// # Errors
    ///
    /// Why the plugin does nothing about the message. The operator reads it; no client does.
    fn stored(&mut self, message: Message, context: Context, host: &impl Host) -> Outcome {
        let _ = (message, context, host);
        Ok(Vec::new())
    }
}

/// A message type that a plugin handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub(crate) name: &'static str,
    pub(crate) durable: bool,
    pub(crate) from_broker: bool,
}

impl Kind {
    /// A kind of which the sender relies on each event being stored: if the handler fails, the sender gets an error frame.
    ///
    /// # Panics
    ///
    /// If the name is not 1 to 64 characters from `a-z`, `0-9`, `.`, `_` and `-`, or is reserved for the broker: `auth`,
    /// `auth.refresh`, `subscribe`, `unsubscribe` and `ping`. In a constant, this is a compile error.
    pub const fn durable(name: &'static str) -> Self {
        Self::checked(name, true)
    }

    /// A kind of which nothing is stored: if the handler fails, the broker drops the event, and the sender gets an error
    /// only if its frame carried an `id`.
    ///
    /// # Panics
    ///
    /// As [`Kind::durable`].
    pub const fn ephemeral(name: &'static str) -> Self {
        Self::checked(name, false)
    }

    /// Makes this a notice of the broker, such as `user.join`, which no client can send.
    #[must_use]
    pub const fn from_broker(self) -> Self {
        Self { from_broker: true, ..self }
    }

    /// The `type` of the frames of this kind.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    const fn checked(name: &'static str, durable: bool) -> Self {
        assert!(is_name(name, b"._-"), "a kind's name must be 1 to 64 characters from a-z, 0-9, '.', '_' and '-'");
        assert!(
            !matches!(name.as_bytes(), b"auth" | b"auth.refresh" | b"subscribe" | b"unsubscribe" | b"ping"),
            "auth, auth.refresh, subscribe, unsubscribe and ping are reserved for the broker"
        );
        Self { name, durable, from_broker: false }
    }
}

/// A host interface that a plugin requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// [`Host::recent`] and [`Host::message`].
    History,
    /// [`Host::members`] and [`Host::is_member`].
    Members,
    /// [`Host::online`].
    Presence,
    /// [`Host::kv_get`] and [`Host::kv_page`], and [`Effect::KvPut`].
    Kv,
    /// [`Host::log`].
    Log,
}

/// Whether a text is 1 to 64 lower-case letters, digits and characters of `marks`.
pub(crate) const fn is_name(text: &str, marks: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let mut known = bytes[at].is_ascii_lowercase() || bytes[at].is_ascii_digit();
        let mut mark = 0;
        while mark < marks.len() {
            known = known || bytes[at] == marks[mark];
            mark += 1;
        }
        if !known {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty() && bytes.len() <= 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_name_of_a_frame_type() {
        assert_eq!(Kind::durable("chat.message").name(), "chat.message");
        for bad in ["", "Chat", "chat message", "chat/message", "ü", &"x".repeat(65)] {
            assert!(!is_name(bad, b"._-"), "{bad}");
        }
        assert!(is_name(&"x".repeat(64), b""));
    }

    #[test]
    #[should_panic(expected = "reserved for the broker")]
    fn the_kinds_of_the_broker_cannot_be_taken() {
        Kind::ephemeral("ping");
    }

    #[test]
    fn a_notice_keeps_its_durability() {
        let kind = Kind::ephemeral("user.join").from_broker();
        assert_eq!(kind, Kind { name: "user.join", durable: false, from_broker: true });
    }
}
