//! `shout`: stores what a member sends, in capitals.
//!
//! ```text
//! client   {"type":"shout","id":"c1","text":"hello"}
//! all      {"type":"shout","channel":"…","seq":7,"message":{"content":{"text":"HELLO!"},…}}
//! ```
//!
//! The operator can configure what each text ends with: `{"mark":"!!!"}`.

use serde::{Deserialize, Serialize};
use switchboard_plugin_sdk::prelude::*;

/// Maximum length of a text in characters.
pub const MAX_CHARS: usize = 500;

/// The handler. What it keeps is a cache: the broker runs several instances and may end any of them at any time.
#[derive(Debug, Default)]
pub struct Plugin {
    config: Config,
}

/// The operator's configuration, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    mark: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { mark: "!".to_owned() }
    }
}

/// The part of the client's frame that the handler reads; it ignores the rest.
#[derive(Deserialize)]
struct Frame {
    text: String,
}

/// The content that is stored and sent to the channel.
#[derive(Serialize)]
struct Content {
    text: String,
}

impl Handler for Plugin {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    // Durable: the sender relies on it being stored.
    const KINDS: &'static [Kind] = &[Kind::durable("shout")];

    /// Called once per instance, before its first event. The operator reads an error.
    fn init(&mut self, config: &str) -> Result<(), String> {
        if !config.is_empty() {
            self.config = serde_json::from_str(config).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Called for each event. It only returns effects: the broker applies all of them, or none.
    fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
        let frame: Frame = event.payload()?;
        if !(1..=MAX_CHARS).contains(&frame.text.chars().count()) {
            return Err(Failure::invalid(format!("`text` must be 1 to {MAX_CHARS} characters")));
        }
        let text = format!("{}{}", frame.text.to_uppercase(), self.config.mark);
        Ok(vec![Effect::store(Draft::new("shout", &Content { text })?)])
    }
}

export!(Plugin);

#[cfg(test)]
mod tests {
    use switchboard_plugin_sdk::mock::{self, MockHost};

    use super::*;

    fn handle(handler: &mut Plugin, text: &str) -> Outcome {
        handler.handle(mock::event("shout", json!({ "text": text })), &MockHost::new())
    }

    fn kept(text: &str) -> Outcome {
        Ok(vec![Effect::store(Draft::new("shout", &json!({ "text": text }))?)])
    }

    #[test]
    fn what_is_said_is_kept_in_capitals() {
        assert_eq!(handle(&mut Plugin::default(), "hello"), kept("HELLO!"));
    }

    #[test]
    fn the_operator_sets_what_it_ends_with() {
        let mut handler = Plugin::default();
        assert_eq!(handler.init(r#"{"mark":"?!"}"#), Ok(()));
        assert_eq!(handle(&mut handler, "hello"), kept("HELLO?!"));
        assert!(handler.init(r#"{"marc":"?!"}"#).is_err());
    }

    #[test]
    fn a_wrong_frame_is_explained() {
        let refused = Err(Failure::invalid("`text` must be 1 to 500 characters"));
        for text in [String::new(), "x".repeat(501)] {
            assert_eq!(handle(&mut Plugin::default(), &text), refused);
        }
        let event = mock::event("shout", json!({ "text": 7 }));
        let refused = Err(Failure::invalid("`text` must be a string"));
        assert_eq!(Plugin::default().handle(event, &MockHost::new()), refused);
    }
}
