//! `switchboard plugin deploy`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use super::api::Api;
use super::list::{text, words};
use crate::cli::output::print_line;

#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// The component: a .wasm file
    file: PathBuf,
}

pub(super) async fn run(verb: &Deploy, api: &Api) -> Result<()> {
    let read = tokio::fs::read(&verb.file).await;
    let bytes = read.with_context(|| format!("failed to read {}", verb.file.display()))?;
    let answer = api.upload("/api/plugins/", bytes).await?;
    let version = &answer["version"];
    let (name, number) = (text(version, "plugin"), text(version, "version"));
    let already = if answer["changed"] == false { " was already deployed" } else { " is deployed" };
    print_line!("{name} {number}{already}");
    print_line!("  digest   {}", text(version, "digest"));
    print_line!("  kinds    {}", words(&version["kinds"], |kind| kind["kind"].as_str()));
    print_line!("  watches  {}", words(&version["watches"], Value::as_str));
    print_line!("  wants    {}", words(&version["wants"], Value::as_str));
    print_line!("it handles nothing yet: switchboard plugin activate {name} --version {number}");
    Ok(())
}
