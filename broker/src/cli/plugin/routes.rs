//! `switchboard plugin activate|canary|shadow|promote|rollback|disable|follow`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::api::Api;
use super::list::{items, text, who};
use crate::cli::output::print_line;
use crate::model::{PluginName, TenantSlug};

#[derive(Debug, Args)]
pub(super) struct InScope {
    /// Name of the plugin
    name: PluginName,
    /// Only for this tenant [default: for all tenants]
    #[arg(long)]
    tenant: Option<TenantSlug>,
}

#[derive(Debug, Args)]
pub(super) struct Activate {
    #[command(flatten)]
    what: InScope,
    /// The version, or `built-in` for the broker's own [default: the version deployed last]
    #[arg(long)]
    version: Option<String>,
    /// Text for the plugin's `init` [default: the text of the generation in force]
    #[arg(long, conflicts_with = "init_file")]
    init: Option<String>,
    /// File with the text for `init`
    #[arg(long, value_name = "FILE")]
    init_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Canary {
    #[command(flatten)]
    what: Activate,
    /// Percentage of the channels, 1 to 99; a channel stays on one side
    #[arg(long, value_name = "NUMBER")]
    percent: u8,
}

#[derive(Debug, Args)]
pub(super) struct Follow {
    /// Name of the plugin
    name: PluginName,
    /// Slug of the tenant
    #[arg(long)]
    tenant: TenantSlug,
}

pub(super) async fn activate(verb: &Activate, action: &str, api: &Api) -> Result<()> {
    let body = choice(verb)?;
    say(&act(api, &verb.what.name, action, &body).await?);
    Ok(())
}

pub(super) async fn canary(verb: &Canary, api: &Api) -> Result<()> {
    let mut body = choice(&verb.what)?;
    body["percent"] = verb.percent.into();
    say(&act(api, &verb.what.what.name, "canary", &body).await?);
    Ok(())
}

pub(super) async fn in_scope(verb: &InScope, action: &str, api: &Api) -> Result<()> {
    say(&act(api, &verb.name, action, &json!({"tenant": verb.tenant})).await?);
    Ok(())
}

pub(super) async fn follow(verb: &Follow, api: &Api) -> Result<()> {
    say(&act(api, &verb.name, "follow", &json!({"tenant": verb.tenant})).await?);
    Ok(())
}

/// Prints the result of a change: the old and the new state, the notes, and on how many nodes it is in force.
pub(super) fn say(outcome: &Value) {
    let (subject, who) = (text(outcome, "subject"), who(outcome));
    if outcome["changed"] == false {
        print_line!("{subject} for {who}: already {}", text(outcome, "to"));
        return;
    }
    print_line!("{subject} for {who}: {} (was {})", text(outcome, "to"), text(outcome, "from"));
    for note in items(&outcome["notes"]).iter().filter_map(Value::as_str) {
        print_line!("note: {note}");
    }
    print_line!("{}", text(outcome, "reach"));
}

fn choice(verb: &Activate) -> Result<Value> {
    let config = match &verb.init_file {
        Some(path) => {
            Some(std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?)
        }
        None => verb.init.clone(),
    };
    Ok(json!({"tenant": verb.what.tenant, "version": verb.version, "config": config}))
}

async fn act(api: &Api, name: &PluginName, action: &str, body: &Value) -> Result<Value> {
    api.post(&format!("/api/plugins/{name}/{action}/"), body).await
}
