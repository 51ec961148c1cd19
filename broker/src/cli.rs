//! The command line, one file per command.
//!
//! The commands that change members, tenants and channels work directly on the store, with the settings of `serve`,
//! whether or not a broker is running.

mod channel;
mod check;
mod compile;
mod embedded;
mod lookup;
mod output;
mod plugin;
mod serve;
mod tenant;
mod token;
mod user;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::config::{Settings, secret_variable};
use crate::plugin::COMPILE_VERB;

/// A multi-tenant chat message broker whose message types are WebAssembly plugins.
///
/// Without a command, it runs the broker. Without --database-url, the broker is embedded: it stores everything in SQLite
/// files in the data folder, needs no other service, and creates a demo tenant at its first start.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (the default)
    Serve,
    /// Create, list, disable, enable and delete tenants
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Create, disable, enable, rename and delete members; change passwords
    #[command(subcommand)]
    User(user::Command),
    /// Print an access token for a member
    Token(token::Command),
    /// Create channels
    #[command(subcommand)]
    Channel(channel::Command),
    /// Create and test plugins; deploy, activate and roll them back on a running broker
    Plugin(plugin::Command),
    /// Check the settings
    #[command(subcommand)]
    Config(check::Command),
    /// Compile a component from standard input; for the broker's own use
    #[command(name = COMPILE_VERB, hide = true)]
    CompilePlugin(compile::Command),
}

/// Runs the program. The exit code is 0, 1 for an error, or 2 for a command line that cannot be parsed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // It limits its own resources first, and needs neither settings nor threads.
    if let Some(Command::CompilePlugin(command)) = &cli.command {
        return compile::run(command);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(cli: Cli) -> Result<()> {
    let secret = secret_variable("SWITCHBOARD_JWT_SECRET")?;
    let admin_token = secret_variable("SWITCHBOARD_ADMIN_TOKEN")?;
    let previous = secret_variable("SWITCHBOARD_JWT_PREVIOUS_SECRET")?;
    let config = cli.settings.resolve(secret)?.with_admin_token(admin_token)?.with_previous_secret(previous)?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(config).await,
        Command::Tenant(command) => tenant::run(command, &config).await,
        Command::User(command) => user::run(command, &config).await,
        Command::Token(command) => token::run(command, &config).await,
        Command::Channel(command) => channel::run(command, &config).await,
        Command::Plugin(command) => plugin::run(command, &config).await,
        Command::Config(command) => check::run(&command, &config),
        Command::CompilePlugin(_) => bail!("this command takes no settings"),
    }
}

/// Prints an error and its causes as one line, without repetition.
fn failed(error: &anyhow::Error) -> ExitCode {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "error: {line}");
    ExitCode::FAILURE
}
