//! `switchboard config check`.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::auth::Keys;
use crate::cli::output::print_line;
use crate::config::{Config, SETTINGS, Secret, unknown_variables};
use crate::telemetry;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the settings and print the effective values
    Check,
}

/// Prints the effective settings, without the values of secrets. Settings that cannot be parsed have already ended the
/// program.
pub(super) fn run(command: &Command, config: &Config) -> Result<()> {
    let Command::Check = command;
    config.require_secret()?;
    telemetry::check(&config.log)?;
    for path in &config.plugins.files {
        std::fs::metadata(path).with_context(|| format!("failed to read the plugin {}", path.display()))?;
    }
    // Reads and checks the key set as a start does.
    Keys::new(config.auth.jwt_secret.clone().unwrap_or_else(|| Secret::new("")), &config.auth)?;
    for variable in unknown_variables() {
        // Standard error may be closed.
        let _ = writeln!(io::stderr(), "warning: {variable} is not a setting; --help lists them");
    }
    print_line!("settings are good");
    for setting in SETTINGS {
        let (name, value) = setting.shown(config);
        print_line!("  {name:<28} {value}");
    }
    Ok(())
}
