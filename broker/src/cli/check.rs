//! `switchboard config check`.

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::auth::Keys;
use crate::cli::output::print_line;
use crate::config::{Config, LogFormat, Secret};
use crate::telemetry;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether the settings are good, and what they come to
    Check,
}

/// Prints the settings in effect; secrets are named, not shown. Settings that do not read have ended the program before.
pub(super) fn run(command: &Command, config: &Config) -> Result<()> {
    let Command::Check = command;
    config.require_secret()?;
    telemetry::check(&config.log)?;
    for path in &config.plugins.files {
        std::fs::metadata(path).with_context(|| format!("failed to read the plugin {}", path.display()))?;
    }
    // The key set is read and checked as at a start.
    Keys::new(config.auth.jwt_secret.clone().unwrap_or_else(|| Secret::new("")), config.auth.jwks_file.as_deref())?;
    let set = |is_set: bool, otherwise: &str| if is_set { "(set)".to_owned() } else { otherwise.to_owned() };
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "(any)".to_owned());
    let most =
        |most: Option<usize>, otherwise: &str| most.map_or_else(|| otherwise.to_owned(), |most| most.to_string());
    print_line!("settings are good");
    for (name, value) in [
        ("listen", config.listen.public.to_string()),
        ("admin-listen", config.listen.admin.to_string()),
        (
            "admin token",
            match (config.listen.admin_token.is_some(), config.data.is_embedded()) {
                (true, _) => "(set)".to_owned(),
                (false, true) => "(generated in the data folder)".to_owned(),
                (false, false) => "(none: plugins cannot be changed)".to_owned(),
            },
        ),
        (
            "allowed-origin",
            match config.listen.allowed_origins.as_slice() {
                [] => "(the page's own host)".to_owned(),
                origins => origins.join(", "),
            },
        ),
        (
            "trusted-proxy",
            match config.listen.trusted_proxies.as_slice() {
                [] => "(nobody)".to_owned(),
                networks => networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            },
        ),
        ("data-dir", config.data.folder.display().to_string()),
        ("database-url", set(config.data.database_url.is_some(), "(none: embedded SQLite)")),
        ("redis-url", set(config.data.redis_url.is_some(), "(none: one node)")),
        ("jwt secret", set(config.auth.jwt_secret.is_some(), "(generated in the data folder)")),
        ("jwks-file", config.auth.jwks_file.as_ref().map_or("(none)".to_owned(), |path| path.display().to_string())),
        ("jwt-issuer", text(&config.auth.issuer)),
        ("jwt-audience", text(&config.auth.audience)),
        ("auto-provision", config.auth.auto_provision.to_string()),
        ("access-ttl", format!("{}s", config.auth.access_ttl.as_secs())),
        ("refresh-ttl", format!("{}s", config.auth.refresh_ttl.as_secs())),
        ("builtin-plugins", config.plugins.builtin.to_string()),
        ("plugin", config.plugins.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")),
        ("max-connections", config.limits.connections.to_string()),
        ("- per tenant", most(config.limits.tenant_connections, "(all)")),
        ("- per member", config.limits.member_connections.to_string()),
        ("- per address", most(config.limits.address_connections, "(half of all, 1024 at least)")),
        ("drain", format!("{}s", config.limits.drain.as_secs())),
        ("log-format", if config.log.format == LogFormat::Json { "json" } else { "text" }.to_owned()),
        ("log", config.log.filter.clone()),
    ] {
        print_line!("  {name:<16} {value}");
    }
    Ok(())
}
