//! `user.join` and `user.leave`: tell the others in a channel who comes and goes.
//!
//! ```text
//! others   {"type":"user.join","channel":"…","user":{"id":"…","username":"…"}}
//! others   {"type":"user.leave","channel":"…","user":{"id":"…","username":"…"}}
//! ```
//!
//! No client sends these. They are notices of the broker, about the first session of a member in a channel and the
//! last one, so their payload is empty and all there is to know stands in the context.

use serde::Serialize;
use switchboard_plugin_sdk::prelude::*;

/// The handler of both kinds. It remembers nothing: who is here is the broker's to know.
#[derive(Debug, Default)]
pub struct Presence;

/// What the others get. The broker adds `type` and `channel`.
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
        // The frame has the type of the event, which is one of the two: the broker calls a handler for no other kind.
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
