//! `message.read`: records that a member has read a channel up to and including a message.
//!
//! ```text
//! client   {"type":"message.read","message_id":"…"}
//! all      {"type":"message.read","channel":"…","user":{…},"message_id":"…","read_at":"…"}
//! ```
//!
//! The plugin only names the message. The broker finds it in the channel, moves the member's mark, and notifies the
//! channel if the mark moved forward; a mark never moves back.

use serde::Deserialize;
use switchboard_plugin_sdk::prelude::*;

/// The handler. It keeps nothing from one event to the next.
#[derive(Debug, Default)]
pub struct MessageRead;

/// The part of the client's frame that the handler reads; it ignores the rest.
#[derive(Deserialize)]
struct Frame {
    message_id: String,
}

impl Handler for MessageRead {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    // The mark is stored, so the sender must learn if that fails.
    const KINDS: &'static [Kind] = &[Kind::durable("message.read")];

    fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
        let frame: Frame = event.payload()?;
        Ok(vec![Effect::mark_read("message.read", frame.message_id)])
    }
}

export!(MessageRead);

#[cfg(test)]
mod tests {
    use switchboard_plugin_sdk::mock::{self, MockHost};

    use super::*;

    fn handle(payload: serde_json::Value) -> Outcome {
        MessageRead.handle(mock::event("message.read", payload), &MockHost::new())
    }

    #[test]
    fn the_mark_moves_to_the_message() {
        let mark = Effect::mark_read("message.read", "m7");
        assert_eq!(handle(json!({ "id": "c1", "message_id": "m7" })), Ok(vec![mark]));
    }

    #[test]
    fn a_message_is_named_by_a_text() {
        assert_eq!(handle(json!({})), Err(Failure::invalid("missing field `message_id`")));
        assert_eq!(handle(json!({ "message_id": 7 })), Err(Failure::invalid("`message_id` must be a string")));
        assert_eq!(handle(json!({ "message_id": null })), Err(Failure::invalid("`message_id` must be a string")));
    }
}
