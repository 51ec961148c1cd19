//! `switchboard plugin logs`.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;

use super::api::Api;
use super::list::text;
use crate::model::PluginName;

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The plugin
    name: PluginName,
    /// Go on with what it logs from now on, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines first
    #[arg(long, default_value_t = 100)]
    tail: u32,
}

/// Prints what the asked node kept of the plugin's log; other nodes have lines of their own.
pub(super) async fn run(verb: &Logs, api: &Api) -> Result<()> {
    let path = format!("/api/plugins/{}/logs/?follow={}&tail={}", verb.name, verb.follow, verb.tail);
    let mut stream = api.stream(&path).await?.into_data_stream();
    let mut rest = Vec::new();
    while let Some(bytes) = stream.next().await {
        rest.extend_from_slice(&bytes.context("failed to read on")?);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let Ok(line) = serde_json::from_slice::<Value>(&line) else { continue };
            let said = writeln!(
                io::stdout().lock(),
                "{} {:<5} {} {}: {}",
                text(&line, "at"),
                text(&line, "level"),
                text(&line, "tenant"),
                text(&line, "version"),
                printable(text(&line, "text")),
            );
            // Whoever read it has enough.
            if said.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A plugin's text, without what would command the terminal. A backtrace keeps its lines.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_cannot_command_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\td\u{9b}e"), "a\u{fffd}[2Jb\u{fffd}\nc\td\u{fffd}e");
    }
}
