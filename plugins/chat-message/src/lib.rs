//! `chat.message`: sends a message to a channel.
//!
//! ```text
//! client   {"type":"chat.message","id":"c1","message":"hi"}
//! client   {"type":"chat.message","id":"c2","message":{"content":"hi","reply_to":"…","attachments":[{…}]}}
//! all      {"type":"chat.message","channel":"…","seq":42,"message":{"id":"…","content":"hi",…}}
//! ```
//!
//! The content is stored exactly as sent, including whitespace. Leading and trailing whitespace does not count as content
//! or towards the length, and a message with an attachment needs no content: a picture speaks for itself.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use switchboard_plugin_sdk::prelude::*;

/// Maximum length of a message in characters, without leading and trailing whitespace.
pub const MAX_CHARS: usize = 8000;
/// Maximum number of attachments of a message.
pub const MAX_ATTACHMENTS: usize = 10;

/// The handler. It keeps nothing from one event to the next.
#[derive(Debug, Default)]
pub struct ChatMessage;

/// The part of the client's frame that the handler reads; it ignores the rest.
#[derive(Deserialize)]
struct Frame {
    #[serde(deserialize_with = "text_or_object")]
    message: Said,
}

#[derive(Default, Deserialize)]
struct Said {
    content: String,
    reply_to: Option<String>,
    // Clients define what an attachment means: its JSON is passed on unchanged.
    attachments: Option<Vec<Box<RawValue>>>,
}

impl Handler for ChatMessage {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] = &[Kind::durable("chat.message")];

    fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
        let Said { content, reply_to, attachments } = event.payload::<Frame>()?.message;
        let attachments = attachments.unwrap_or_default();
        let said = content.trim();
        if said.is_empty() && attachments.is_empty() {
            return Err(Failure::invalid("the message is empty"));
        }
        if said.chars().count() > MAX_CHARS {
            return Err(Failure::invalid(format!("the message is longer than {MAX_CHARS} characters")));
        }
        if attachments.len() > MAX_ATTACHMENTS {
            return Err(Failure::invalid(format!("there are more than {MAX_ATTACHMENTS} attachments")));
        }
        if !attachments.iter().all(|attachment| attachment.get().starts_with('{')) {
            return Err(Failure::invalid("each of `attachments` must be an object"));
        }
        let texts = [Some(&content), reply_to.as_ref()];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) || attachments.iter().any(|a| has_nul(a)) {
            return Err(Failure::invalid("the message contains the character U+0000"));
        }
        let draft = Draft::new("chat.message", &content)?.reply_to(reply_to).attachments(attachments)?;
        Ok(vec![Effect::store(draft)])
    }
}

export!(ChatMessage);

/// `"hi"` is short for `{"content":"hi"}`.
fn text_or_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Said, D::Error> {
    struct TextOrObject;

    impl<'de> Visitor<'de> for TextOrObject {
        type Value = Said;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an object with `content`")
        }

        fn visit_str<E>(self, content: &str) -> Result<Said, E> {
            Ok(Said { content: content.to_owned(), ..Said::default() })
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Said, A::Error> {
            Said::deserialize(MapAccessDeserializer::new(members))
        }
    }

    deserializer.deserialize_any(TextOrObject)
}

/// Whether a JSON text contains U+0000, which databases that store JSON cannot store. JSON can only write it escaped; a
/// backslash that is itself escaped does not begin an escape.
fn has_nul(json: &RawValue) -> bool {
    json.get().replace(r"\\", "").contains(r"\u0000")
}

#[cfg(test)]
mod tests;
