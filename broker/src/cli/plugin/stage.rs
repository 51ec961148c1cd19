//! The grants, limits and configuration with which the commands for authors run a plugin, from the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::model::catalogue::{Import, PluginPolicy, Scope};
use crate::plugin::{Allowance, Limits};

/// Grants and limits.
#[derive(Debug, Args)]
pub(super) struct Given {
    /// Grant an interface: history, members, presence, kv or log; may be repeated [default: all of them]
    #[arg(long = "grant", value_name = "INTERFACE", value_parser = import)]
    grants: Vec<Import>,
    /// Set a limit, such as memory_mib=64; may be repeated
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limit)]
    limits: Vec<(String, u64)>,
}

/// The configuration for `init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The configuration that the plugin's `init` receives
    #[arg(long, value_name = "TEXT", conflicts_with = "init_file")]
    init: Option<String>,
    /// File with the configuration
    #[arg(long, value_name = "FILE")]
    init_file: Option<PathBuf>,
}

impl Init {
    /// The text; empty if none is given.
    pub(super) fn text(&self) -> Result<String> {
        match &self.init_file {
            Some(file) => read(file),
            None => Ok(self.init.clone().unwrap_or_default()),
        }
    }
}

impl Given {
    /// The resulting allowance.
    pub(super) fn allowance(&self) -> Result<Allowance> {
        allowance(&self.grants, &self.limits)
    }
}

/// The broker's default limits with changes, and the given grants, or all of them if none is given.
pub(super) fn allowance(grants: &[Import], limits: &[(String, u64)]) -> Result<Allowance> {
    let terms = PluginPolicy {
        scope: Scope::All,
        plugin: "rehearsed".parse()?,
        grants: (!grants.is_empty()).then(|| grants.iter().copied().collect::<BTreeSet<_>>()),
        limits: limits.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    Ok(Allowance::trusted().under(Some(&terms), None))
}

/// Reads a configuration file.
pub(super) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

fn import(name: &str) -> Result<Import, String> {
    let all = || Import::ALL.map(Import::as_str).join(", ");
    Import::from_name(name).ok_or_else(|| format!("the interfaces are {}", all()))
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = value.parse().map_err(|_| "the value must be a whole number")?;
    Limits::check(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value))
}
