//! `switchboard plugin record`: records live events for `switchboard plugin test` and `replay`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use futures_util::StreamExt;
use serde_json::json;

use super::api::Api;
use crate::model::{Kind, PluginName, TenantSlug};

#[derive(Debug, Args)]
pub(super) struct Record {
    /// The type of the events to record
    kind: Kind,
    /// The tenant whose events to record; it must consent
    #[arg(long)]
    tenant: TenantSlug,
    /// Stop after this many events
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    events: u32,
    /// Stop after this many seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Replace the letters and digits in texts and names, and the ids, with others
    #[arg(long)]
    redact: bool,
    /// Record what this watching plugin receives, instead of what the type's handler receives
    #[arg(long, value_name = "PLUGIN")]
    watcher: Option<PluginName>,
}

/// Prints one JSON object per event that the node handles. Comments go to standard error.
pub(super) async fn run(verb: &Record, api: &Api) -> Result<()> {
    let body = json!({
        "kind": verb.kind,
        "tenant": verb.tenant,
        "events": verb.events,
        "seconds": verb.seconds,
        "redact": verb.redact,
        "watcher": verb.watcher,
    });
    let mut lines = std::pin::pin!(api.post_lines("/api/recordings/", &body).await?);
    while let Some(line) = lines.next().await {
        let line = line?;
        let written = match line.as_bytes().first() {
            Some(b'#') => writeln!(io::stderr().lock(), "{line}"),
            Some(b'{') => writeln!(io::stdout().lock(), "{line}"),
            _ => Ok(()),
        };
        // The reader closed the pipe.
        if written.is_err() {
            break;
        }
    }
    Ok(())
}
