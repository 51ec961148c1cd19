//! `message.reaction`: reacts to a message with an emoji; sending it again removes the reaction.
//!
//! ```text
//! client   {"type":"message.reaction","id":"c1","message_id":"…","emoji":"👍"}
//! all      {"type":"message.reaction","channel":"…","seq":43,
//!           "message":{"content":{"emoji":"👍","added":true},"reply_to":"…","sender":{…},…}}
//! ```
//!
//! A reaction is a message that replies to another one, so it has a place in the channel, and members who were away receive
//! it with everything else. The messages do not show at a glance whether a member's reaction still applies: for that, the
//! plugin has a key for each message, emoji and member.

use serde::Deserialize;
use switchboard_plugin_sdk::prelude::*;

/// Maximum length of an emoji in bytes: families with skin and hair colours are this long.
pub const MAX_EMOJI: usize = 48;

/// The handler. It keeps nothing from one event to the next; its state is under its keys.
#[derive(Debug, Default)]
pub struct Reaction;

/// The part of the client's frame that the handler reads.
#[derive(Deserialize)]
struct Frame {
    message_id: String,
    emoji: String,
}

impl Handler for Reaction {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] = &[Kind::durable("message.reaction")];
    const WANTS: &'static [Want] = &[Want::History, Want::Kv];

    fn handle(&mut self, event: Event, host: &impl Host) -> Outcome {
        let Frame { message_id, emoji } = event.payload()?;
        if !is_emoji(&emoji) {
            return Err(Failure::invalid("`emoji` must be one emoji"));
        }
        // A deleted message keeps its place, so the store alone would accept a reaction to it.
        match host.message(&message_id)? {
            None => return Err(Failure::invalid("there is no such message in this channel")),
            Some(message) if message.deleted_at_ms.is_some() => return Err(Failure::denied("the message was deleted")),
            Some(_) => {}
        }
        let key = format!("{message_id}/{emoji}/{}", event.context.user.id);
        let stands = host.kv_get(&key)?;
        let added = stands.is_none();
        let write = if added { KvWrite::bytes(key, "") } else { KvWrite::remove(key) };
        let draft = Draft::new("message.reaction", &json!({ "emoji": emoji, "added": added }))?.reply_to(message_id);
        // Two taps at the same moment, on two devices, take effect one after the other: the second finds the key changed, so
        // the broker applies nothing of it and calls the handler again.
        Ok(vec![Effect::kv_put(write.if_unchanged(stands.as_ref())), Effect::store(draft)])
    }
}

export!(Reaction);

/// Whether a text can be an emoji. The set of emoji changes every year, so clients decide which ones they offer.
fn is_emoji(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii() || c.is_alphanumeric() || c.is_whitespace() || c.is_control();
    (1..=MAX_EMOJI).contains(&text.len()) && !text.chars().all(is_plain) && !text.contains('/')
}

#[cfg(test)]
mod tests {
    use switchboard_plugin_sdk::mock::{self, MockHost};

    use super::*;

    fn host() -> MockHost {
        let gone = Message { deleted_at_ms: Some(1), ..mock::message(2, "bob", &json!(null)) };
        MockHost::new().with_messages([mock::message(1, "bob", &json!("hi")), gone])
    }

    fn tap(host: &MockHost, emoji: &str) -> Outcome {
        let frame = json!({ "message_id": "message-1", "emoji": emoji });
        Reaction.handle(mock::event("message.reaction", frame), host)
    }

    fn reaction(added: bool) -> Effect {
        let content = json!({ "emoji": "👍", "added": added });
        Effect::store(Draft::new("message.reaction", &content).unwrap().reply_to("message-1".to_owned()))
    }

    #[test]
    fn a_second_tap_takes_the_first_one_back() {
        let mut host = host();
        for added in [true, false, true] {
            let effects = tap(&host, "👍").unwrap();
            assert_eq!(effects[1], reaction(added));
            host.apply(&effects).unwrap();
        }
    }

    #[test]
    fn of_two_taps_at_once_one_is_asked_again() {
        let mut host = host();
        let (first, second) = (tap(&host, "👍").unwrap(), tap(&host, "👍").unwrap());
        host.apply(&first).unwrap();
        assert_eq!(host.apply(&second), Err(mock::Conflict));
        assert_eq!(tap(&host, "👍").unwrap()[1], reaction(false));
    }

    #[test]
    fn what_is_no_emoji_or_no_message_is_refused() {
        for bad in ["", "ok", "7", " ", "👍/👎", "\u{0}", &"👍".repeat(13)] {
            assert_eq!(tap(&host(), bad), Err(Failure::invalid("`emoji` must be one emoji")), "{bad:?}");
        }
        for good in ["👍", "❤\u{fe0f}", "1\u{fe0f}\u{20e3}"] {
            assert!(tap(&host(), good).is_ok(), "{good:?}");
        }
        let on = |id: &str| {
            let frame = json!({ "message_id": id, "emoji": "👍" });
            Reaction.handle(mock::event("message.reaction", frame), &host())
        };
        assert_eq!(on("message-2"), Err(Failure::denied("the message was deleted")));
        assert_eq!(on("message-3"), Err(Failure::invalid("there is no such message in this channel")));
    }
}
