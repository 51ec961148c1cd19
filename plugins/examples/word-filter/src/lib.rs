//! `chat.message`, with words that are replaced or refused.
//!
//! It replaces the built-in handler of `chat.message`, for one tenant or for all, and shows how an operator configures a
//! plugin. The configuration is JSON, given at the activation:
//!
//! ```json
//! { "replace": { "darn": "d**n" }, "refuse": ["spam"] }
//! ```
//!
//! It compares whole words, in upper or lower case. If the configuration is not valid, the broker refuses the activation:
//! the operator reads the error of `init`, and the previous handler stays in force.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use switchboard_plugin_sdk::prelude::*;

/// The handler. What it keeps comes from the configuration, which an instance receives once, at its start.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WordFilter {
    replace: BTreeMap<String, String>,
    refuse: BTreeSet<String>,
}

/// The part of the client's frame that the handler reads.
#[derive(Deserialize)]
struct Frame {
    message: Said,
}

/// `"hi"` is short for `{"content":"hi"}`, as it is for the built-in handler.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an object with `content`")]
enum Said {
    Text(String),
    Message {
        content: String,
        reply_to: Option<String>,
        #[serde(default)]
        attachments: Vec<serde_json::Map<String, Value>>,
    },
}

impl Handler for WordFilter {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] = &[Kind::durable("chat.message")];

    fn init(&mut self, config: &str) -> Result<(), String> {
        let mut read: Self = serde_json::from_str(config).map_err(|error| {
            format!(
                "the configuration must be like {{\"replace\":{{\"darn\":\"d**n\"}},\"refuse\":[\"spam\"]}}: {error}"
            )
        })?;
        read.replace = read.replace.into_iter().map(|(word, by)| (word.to_lowercase(), by)).collect();
        read.refuse = read.refuse.into_iter().map(|word| word.to_lowercase()).collect();
        if read.replace.is_empty() && read.refuse.is_empty() {
            return Err("the configuration names no word".to_owned());
        }
        if let Some(odd) = read.replace.keys().chain(&read.refuse).find(|word| !is_word(word)) {
            return Err(format!("`{odd}` is no single word, and would never be found"));
        }
        *self = read;
        Ok(())
    }

    fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
        let (content, reply_to, attachments) = match event.payload::<Frame>()?.message {
            Said::Text(content) => (content, None, Vec::new()),
            Said::Message { content, reply_to, attachments } => (content, reply_to, attachments),
        };
        if content.trim().is_empty() && attachments.is_empty() {
            return Err(Failure::invalid("the message is empty"));
        }
        let content = self.filter(&content)?;
        let draft = Draft::new("chat.message", &content)?.reply_to(reply_to).attachments(attachments)?;
        Ok(vec![Effect::store(draft)])
    }
}

export!(WordFilter);

impl WordFilter {
    /// The text with its words replaced. Everything between the words stays.
    fn filter(&self, text: &str) -> Result<String, Failure> {
        let mut filtered = String::with_capacity(text.len());
        for piece in pieces(text) {
            let word = piece.to_lowercase();
            if self.refuse.contains(&word) {
                return Err(Failure::denied(format!("`{word}` is not said here")));
            }
            filtered.push_str(self.replace.get(&word).map_or(piece, String::as_str));
        }
        Ok(filtered)
    }
}

/// The words of a text and what is between them, in order.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let in_word = rest.chars().next()?.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != in_word).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(char::is_alphanumeric)
}

#[cfg(test)]
mod tests;
