//! What a plugin author implements, and what a plugin says of itself.

use crate::{Context, Effect, Event, Failure, Host, Message};

/// What a handler answers: effects that are applied all or none, or the reason why it refuses the event.
pub type Outcome = Result<Vec<Effect>, Failure>;

/// A plugin: the handler of one or more kinds of events.
///
/// The broker keeps an instance warm and gives it many events, one after the other. It may end it at any time and runs
/// others beside it, so `self` is a cache and never state.
pub trait Handler: Default + 'static {
    /// The plugin's name: 1 to 64 of `a-z`, `0-9` and `-`. Usually `env!("CARGO_PKG_NAME")`.
    const NAME: &'static str;

    /// A semantic version. Usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;

    /// The kinds of events that this plugin handles: at most 32, and at least one, unless it watches. It is called for no
    /// other.
    const KINDS: &'static [Kind];

    /// The kinds of messages after which [`Handler::stored`] is called, whichever plugin stores them: at most 32.
    const WATCHES: &'static [&'static str] = &[];

    /// The host interfaces that this plugin cannot do without. A broker that lacks one of them refuses the plugin,
    /// instead of failing its events later.
    const WANTS: &'static [Want] = &[];

    /// Called once an instance, before its first event.
    ///
    /// `config` is the operator's text for this plugin, empty when there is none.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, for the operator to read. The plugin is then not loaded.
    fn init(&mut self, config: &str) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// Called for each event of [`Handler::KINDS`]. It may be called again with the same event, when a write of a key came
    /// too late; what it answers follows from the event and from what it reads, and from nothing else.
    ///
    /// # Errors
    ///
    /// Why the event is refused. Nothing is stored or sent then, and each [`Failure`] tells the sender something else.
    fn handle(&mut self, event: Event, host: &impl Host) -> Outcome;

    /// Called after a message of [`Handler::WATCHES`] was stored, after its sender's ack and with nothing to refuse any
    /// more. Its effects are applied in the name of the message's sender, who is `context.user`.
    ///
    /// It is called once to its end, and not at all when a node dies first: what must never be missing belongs in
    /// [`Handler::handle`]. After a trap, a timeout, [`Failure::Retry`] and [`Failure::Internal`] it is called again, three
    /// times in all; what it
    /// stores is stored once. What it stores is watched in turn, also by itself, at most three deep.
    ///
    /// # Errors
    ///
    /// Why nothing follows from the message. The operator reads it; no client does.
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
    /// A kind whose sender counts on it being kept: when the handler fails, the sender gets an error frame.
    ///
    /// # Panics
    ///
    /// When the name is not 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`, or is one of the broker's own: `auth`,
    /// `auth.refresh`, `subscribe`, `unsubscribe` and `ping`. In a constant that is an error of the compiler.
    pub const fn durable(name: &'static str) -> Self {
        Self::checked(name, true)
    }

    /// A kind of which nothing is kept: when the handler fails, the event is dropped, and the sender hears of it only
    /// when its frame carried an `id`.
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
        assert!(is_name(name, b"._-"), "the name of a kind is 1 to 64 of a-z, 0-9, '.', '_' and '-'");
        assert!(
            !matches!(name.as_bytes(), b"auth" | b"auth.refresh" | b"subscribe" | b"unsubscribe" | b"ping"),
            "auth, auth.refresh, subscribe, unsubscribe and ping are the broker's own kinds"
        );
        Self { name, durable, from_broker: false }
    }
}

/// A host interface that a plugin cannot do without.
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
    #[should_panic(expected = "the broker's own")]
    fn the_kinds_of_the_broker_cannot_be_taken() {
        Kind::ephemeral("ping");
    }

    #[test]
    fn a_notice_keeps_its_durability() {
        let kind = Kind::ephemeral("user.join").from_broker();
        assert_eq!(kind, Kind { name: "user.join", durable: false, from_broker: true });
    }
}
