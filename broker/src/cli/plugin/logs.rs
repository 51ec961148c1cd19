//! `switchboard plugin logs`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;

use super::api::Api;
use super::list::text;
use crate::model::PluginName;

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Name of the plugin
    name: PluginName,
    /// Continue with new lines until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Begin with this many of the latest lines
    #[arg(long, default_value_t = 100)]
    tail: u32,
}

/// Prints the plugin's log on one node; other nodes have lines of their own.
pub(super) async fn run(verb: &Logs, api: &Api) -> Result<()> {
    let path = format!("/api/plugins/{}/logs/?follow={}&tail={}", verb.name, verb.follow, verb.tail);
    let mut lines = std::pin::pin!(api.lines(&path).await?);
    while let Some(line) = lines.next().await {
        let Ok(line) = serde_json::from_str::<Value>(&line?) else { continue };
        let written = writeln!(
            io::stdout().lock(),
            "{} {:<5} {} {}: {}",
            text(&line, "at"),
            text(&line, "level"),
            text(&line, "tenant"),
            text(&line, "version"),
            printable(text(&line, "text")),
        );
        // The reader closed the pipe.
        if written.is_err() {
            break;
        }
    }
    Ok(())
}

/// A plugin's text without control characters for the terminal. A backtrace keeps its line breaks.
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
