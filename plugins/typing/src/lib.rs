//! `typing`: tells the other members of a channel that a member is typing, or has stopped.
//!
//! ```text
//! client   {"type":"typing","is_typing":true}
//! others   {"type":"typing","channel":"…","user":{"id":"…","username":"…"},"is_typing":true}
//! ```
//!
//! It stores nothing. It is the smallest plugin that handles a client's frame, so it is a good one to copy.

use serde::{Deserialize, Serialize};
use switchboard_plugin_sdk::prelude::*;

/// The handler. It keeps nothing from one event to the next.
#[derive(Debug, Default)]
pub struct Typing;

/// The part of the client's frame that the handler reads; it ignores the rest.
#[derive(Deserialize)]
struct Frame {
    is_typing: bool,
}

/// What the other members receive. The broker adds `type` and `channel`.
#[derive(Serialize)]
struct Notice {
    user: User,
    is_typing: bool,
}

impl Handler for Typing {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] = &[Kind::ephemeral("typing")];

    fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
        let frame: Frame = event.payload()?;
        // The broker says who is typing: a client cannot type in someone else's name.
        let notice = Notice { user: event.context.user, is_typing: frame.is_typing };
        Ok(vec![Effect::broadcast(Signal::to_channel("typing", &notice)?.except_sender())])
    }
}

export!(Typing);

#[cfg(test)]
mod tests {
    use switchboard_plugin_sdk::mock::{self, MockHost};

    use super::*;

    fn handle(payload: serde_json::Value) -> Outcome {
        Typing.handle(mock::event("typing", payload), &MockHost::new())
    }

    #[test]
    fn the_others_hear_who_types() {
        for is_typing in [true, false] {
            let signal = Signal {
                audience: Audience::ChannelExceptSender,
                kind: "typing".to_owned(),
                payload: format!(r#"{{"user":{{"id":"user-alice","username":"alice"}},"is_typing":{is_typing}}}"#),
            };
            assert_eq!(handle(json!({ "id": "c1", "is_typing": is_typing })), Ok(vec![Effect::Broadcast(signal)]));
        }
    }

    #[test]
    fn a_client_cannot_type_in_another_name() {
        let honest = handle(json!({ "is_typing": true }));
        assert_eq!(handle(json!({ "is_typing": true, "user": { "id": "user-bob", "username": "bob" } })), honest);
    }

    #[test]
    fn is_typing_is_a_boolean() {
        assert_eq!(handle(json!({})), Err(Failure::invalid("missing field `is_typing`")));
        assert_eq!(handle(json!({ "is_typing": "yes" })), Err(Failure::invalid("`is_typing` must be a boolean")));
    }
}
