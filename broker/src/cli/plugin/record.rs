//! `switchboard plugin record`: writes down live events for `switchboard plugin test` and `replay`.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;
use futures_util::StreamExt;
use serde_json::json;

use super::api::Api;
use crate::model::{Kind, PluginName, TenantSlug};

#[derive(Debug, Args)]
pub(super) struct Record {
    /// The type of the events
    kind: Kind,
    /// Whose events; the tenant must consent
    #[arg(long)]
    tenant: TenantSlug,
    /// How many events at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    events: u32,
    /// For how many seconds at most
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Put other letters in place of what people said and of names, and other ids in place of ids
    #[arg(long)]
    redact: bool,
    /// What this plugin is told of stored messages of the type, not what the type's handler is given
    #[arg(long, value_name = "PLUGIN")]
    watcher: Option<PluginName>,
}

/// Prints a line of JSON for each event that the asked node handles; remarks go to standard error.
pub(super) async fn run(verb: &Record, api: &Api) -> Result<()> {
    let body = json!({
        "kind": verb.kind,
        "tenant": verb.tenant,
        "events": verb.events,
        "seconds": verb.seconds,
        "redact": verb.redact,
        "watcher": verb.watcher,
    });
    let mut stream = api.post_stream("/api/recordings/", &body).await?.into_data_stream();
    let mut rest = Vec::new();
    while let Some(bytes) = stream.next().await {
        rest.extend_from_slice(&bytes.context("failed to read on")?);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let said = match line.first() {
                Some(b'#') => io::stderr().lock().write_all(&line),
                Some(b'{') => io::stdout().lock().write_all(&line),
                _ => Ok(()),
            };
            // Whoever read it has enough.
            if said.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
