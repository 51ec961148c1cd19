//! `user.join` and `user.leave`: tell the other members of a channel who comes and goes.
//!
//! ```text
//! others   {"type":"user.join","channel":"…","user":{"id":"…","username":"…"}}
//! others   {"type":"user.leave","channel":"…","user":{"id":"…","username":"…"}}
//! ```
//!
//! No client sends these. They are notices of the broker about a member's first and last session in a channel, so their
//! payload is empty, and the context holds everything.

use serde::Serialize;
use switchboard_plugin_sdk::prelude::*;

/// The handler of both kinds. It keeps nothing: the broker knows who is connected.
#[derive(Debug, Default)]
pub struct Presence;

/// What the other members receive. The broker adds `type` and `channel`.
#[derive(Serialize)]
struct Notice {
    user: User,
}

impl Handler for Presence {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] =
        &[Kind::ephemeral("user.join").from_broker(), Kind::ephemeral("user.leave").from_broker()];

    fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
        let notice = Notice { user: event.context.user };
        // The frame has the type of the event, which is one of these two: the broker calls a handler for no other kind.
        Ok(vec![Effect::broadcast(Signal::to_channel(event.kind, &notice)?.except_sender())])
    }
}

export!(Presence);

#[cfg(test)]
mod tests {
    use switchboard_plugin_sdk::mock::{self, MockHost};

    use super::*;

    #[test]
    fn the_others_hear_who_comes_and_goes() {
        for kind in ["user.join", "user.leave"] {
            let signal = Signal {
                audience: Audience::ChannelExceptSender,
                kind: kind.to_owned(),
                payload: r#"{"user":{"id":"user-alice","username":"alice"}}"#.to_owned(),
            };
            let outcome = Presence.handle(mock::notice(kind), &MockHost::new());
            assert_eq!(outcome, Ok(vec![Effect::Broadcast(signal)]), "{kind}");
        }
    }
}
