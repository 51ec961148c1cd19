//! Handles `chat.message` and stamps each with the version and the configuration that handled it, so that the tests can
//! see which generation did.

use serde::{Deserialize, Serialize};
use switchboard_plugin_sdk::prelude::*;

#[derive(Debug, Default)]
struct Stamp {
    config: String,
}

#[derive(Deserialize)]
struct Frame {
    message: String,
}

#[derive(Serialize)]
struct Stamped<'a> {
    version: &'static str,
    config: &'a str,
}

impl Handler for Stamp {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = if cfg!(feature = "second") { "2.0.0" } else { "1.0.0" };
    const KINDS: &'static [Kind] = &[Kind::durable("chat.message")];

    fn init(&mut self, config: &str) -> Result<(), String> {
        config.clone_into(&mut self.config);
        Ok(())
    }

    fn handle(&mut self, event: Event, _host: &impl Host) -> Outcome {
        let Frame { message } = event.payload()?;
        let stamp = Stamped { version: Self::VERSION, config: &self.config };
        Ok(vec![Effect::store(Draft::new("chat.message", &message)?.attachments([stamp])?)])
    }
}

export!(Stamp);
