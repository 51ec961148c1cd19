//! `switchboard plugin audit` and `nodes`.

use anyhow::Result;
use clap::Args;

use super::api::Api;
use super::list::{items, text, who};
use crate::cli::output::print_line;

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Number of lines, 1 to 100
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Show only lines before the line with this number
    #[arg(long)]
    before: Option<u64>,
}

pub(super) async fn audit(verb: &AuditArgs, api: &Api) -> Result<()> {
    let before = verb.before.map(|before| format!("&before={before}")).unwrap_or_default();
    let answer = api.get(&format!("/api/audit/?limit={}{before}", verb.limit)).await?;
    for line in items(&answer["results"]) {
        let (at, actor, action) = (text(line, "at"), text(line, "actor"), text(line, "action"));
        print!("{:<6} {at} {actor} {action} {} for {}: ", line["id"].to_string(), text(line, "subject"), who(line));
        match text(line, "to") {
            // A refused request has no new state.
            "" => print_line!("{}", text(line, "result")),
            to => print_line!("{} -> {to}: {}", text(line, "from"), text(line, "result")),
        }
    }
    Ok(())
}

pub(super) async fn nodes(api: &Api) -> Result<()> {
    let answer = api.get("/api/nodes/").await?;
    print_line!("the catalogue is at revision {}", answer["revision"]);
    for node in items(&answer["results"]) {
        let state = node["error"].as_str().unwrap_or("ok");
        print_line!(
            "{:<40} revision {:<6} {} {state}",
            text(node, "node"),
            node["revision"].to_string(),
            text(node, "at")
        );
    }
    Ok(())
}
