//! `message.edit` and `message.delete`: let members change and delete their own messages.
//!
//! ```text
//! client   {"type":"message.edit","id":"c1","message_id":"…","content":"hello"}
//! all      {"type":"message.edit","channel":"…","seq":43,"message":{"content":null,"reply_to":"…",…}}
//! all      {"type":"message.edited","channel":"…","message_id":"…","content":"hello"}
//!
//! client   {"type":"message.delete","id":"c2","message_id":"…"}
//! all      {"type":"message.delete","channel":"…","seq":44,"message":{"content":null,"reply_to":"…",…}}
//! ```
//!
//! An amendment changes a message in place and sends no frame of its own. The plugin therefore stores a message with it:
//! that message has a `seq`, so it also reaches members who were away, whose clients then read the changed message again.
//! It does not repeat the text, in which a deleted text would survive. Members who are connected get the text in a signal
//! and need not read it.

use serde::Deserialize;
use switchboard_plugin_sdk::prelude::*;

/// Maximum length of a message in characters, the same as for `chat.message`.
pub const MAX_CHARS: usize = 8000;

/// The handler of both kinds. It keeps nothing from one event to the next.
#[derive(Debug, Default)]
pub struct Edit;

/// The message to change, in the frames of both kinds.
#[derive(Deserialize)]
struct Frame {
    message_id: String,
}

/// What a `message.edit` frame has in addition.
#[derive(Deserialize)]
struct Edited {
    content: String,
}

impl Handler for Edit {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] = &[Kind::durable("message.edit"), Kind::durable("message.delete")];
    const WANTS: &'static [Want] = &[Want::History];

    fn handle(&mut self, event: Event, host: &impl Host) -> Outcome {
        let Frame { message_id } = event.payload()?;
        let message = host.message(&message_id)?;
        let message = message.ok_or_else(|| Failure::invalid("there is no such message in this channel"))?;
        // The broker lets a handler amend any message of the channel, so the handler must check who sent it.
        if message.sender.id != event.context.user.id {
            return Err(Failure::denied("only its author may change a message"));
        }
        if message.kind != "chat.message" {
            return Err(Failure::denied("only what was said can be changed"));
        }
        if message.deleted_at_ms.is_some() {
            return Err(Failure::denied("the message was deleted"));
        }
        let notice = Effect::store(Draft::new(&event.kind, &json!(null))?.reply_to(message_id.clone()));
        if event.kind == "message.delete" {
            return Ok(vec![Effect::delete(message_id), notice]);
        }
        let Edited { content } = event.payload()?;
        let said = content.trim();
        if said.is_empty() || said.chars().count() > MAX_CHARS || said.contains('\0') {
            return Err(Failure::invalid(format!(
                "`content` must be 1 to {MAX_CHARS} characters, none of them U+0000"
            )));
        }
        let payload = json!({ "message_id": message_id, "content": content });
        let signal = Effect::broadcast(Signal::to_channel("message.edited", &payload)?);
        Ok(vec![Effect::amend(message_id, &content)?, notice, signal])
    }
}

export!(Edit);

#[cfg(test)]
mod tests {
    use switchboard_plugin_sdk::mock::{self, MockHost};

    use super::*;

    fn handle(kind: &str, frame: serde_json::Value) -> Outcome {
        let mine = mock::message(1, "alice", &json!("hi"));
        let theirs = mock::message(2, "bob", &json!("hi"));
        let gone = Message { deleted_at_ms: Some(1), ..mock::message(3, "alice", &json!(null)) };
        let poll = Message { kind: "poll.create".to_owned(), ..mock::message(4, "alice", &json!({})) };
        let host = MockHost::new().with_messages([mine, theirs, gone, poll]);
        Edit.handle(mock::event(kind, frame), &host)
    }

    fn notice(kind: &str) -> Effect {
        Effect::store(Draft::new(kind, &json!(null)).unwrap().reply_to("message-1".to_owned()))
    }

    #[test]
    fn an_author_changes_a_message() {
        let effects = handle("message.edit", json!({ "message_id": "message-1", "content": "hello" }));
        let payload = json!({ "message_id": "message-1", "content": "hello" });
        let signal = Effect::broadcast(Signal::to_channel("message.edited", &payload).unwrap());
        let amended = Effect::amend("message-1", "hello").unwrap();
        assert_eq!(effects, Ok(vec![amended, notice("message.edit"), signal]));
    }

    #[test]
    fn what_is_deleted_leaves_no_text_behind() {
        let effects = handle("message.delete", json!({ "message_id": "message-1" }));
        assert_eq!(effects, Ok(vec![Effect::delete("message-1"), notice("message.delete")]));
    }

    #[test]
    fn nobody_changes_what_is_not_theirs_or_no_longer_there() {
        for (id, failure) in [
            ("message-2", Failure::denied("only its author may change a message")),
            ("message-3", Failure::denied("the message was deleted")),
            ("message-4", Failure::denied("only what was said can be changed")),
            ("message-5", Failure::invalid("there is no such message in this channel")),
        ] {
            for kind in ["message.edit", "message.delete"] {
                assert_eq!(
                    handle(kind, json!({ "message_id": id, "content": "x" })),
                    Err(failure.clone()),
                    "{kind} {id}"
                );
            }
        }
    }

    #[test]
    fn a_message_is_not_edited_away() {
        for content in ["", " \n", "a\0", &"x".repeat(MAX_CHARS + 1)] {
            let edited = handle("message.edit", json!({ "message_id": "message-1", "content": content }));
            assert!(matches!(edited, Err(Failure::Invalid(_))), "{edited:?}");
        }
        let nothing = handle("message.edit", json!({ "message_id": "message-1" }));
        assert_eq!(nothing, Err(Failure::invalid("missing field `content`")));
    }
}
