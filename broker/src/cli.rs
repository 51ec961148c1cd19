//! The command line: a verb a file.
//!
//! The verbs that change members, tenants and channels work on the store directly, with the settings of `serve`, whether
//! or not a broker runs on it.

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

use crate::config::{Secret, Settings};
use crate::plugin::COMPILE_VERB;

/// A multi-tenant chat message broker whose message types are WebAssembly plugins.
///
/// Without a command it serves. Without --database-url it is embedded: SQLite in the data folder, no service needed, and
/// a demo tenant at the first start.
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
    /// Make, list, disable and enable tenants
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Make members
    #[command(subcommand)]
    User(user::Command),
    /// Print an access token for a member
    Token(token::Command),
    /// Make channels
    #[command(subcommand)]
    Channel(channel::Command),
    /// Deploy, activate, try out and roll back plugins of a running broker
    Plugin(plugin::Command),
    /// Look at the settings
    #[command(subcommand)]
    Config(check::Command),
    /// Compile a component from standard input: what a broker starts for itself
    #[command(name = COMPILE_VERB, hide = true)]
    CompilePlugin(compile::Command),
}

/// Runs the program. The exit code is 0, 1 for what went wrong, or 2 for a command line that does not read.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // It bounds itself first of all, needs no settings, and has no time for threads.
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
    let secret = std::env::var("SWITCHBOARD_JWT_SECRET").ok().map(Secret::new);
    let admin_token = std::env::var("SWITCHBOARD_ADMIN_TOKEN").ok().map(Secret::new);
    let config = cli.settings.resolve(secret)?.with_admin_token(admin_token)?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(config).await,
        Command::Tenant(command) => tenant::run(command, &config).await,
        Command::User(command) => user::run(command, &config).await,
        Command::Token(command) => token::run(command, &config).await,
        Command::Channel(command) => channel::run(command, &config).await,
        Command::Plugin(command) => plugin::run(command, &config).await,
        Command::Config(command) => check::run(&command, &config),
        Command::CompilePlugin(_) => bail!("this is run without settings"),
    }
}

/// One line, without the repetition that a chain of causes brings.
fn failed(error: &anyhow::Error) -> ExitCode {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    // Nobody may read it any more.
    let _ = writeln!(io::stderr(), "error: {line}");
    ExitCode::FAILURE
}
