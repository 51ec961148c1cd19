//! `switchboard compile-plugin`: the child process in which a broker compiles a component. Not for people.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::plugin;

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Address space, in bytes
    #[arg(long)]
    memory: u64,
    /// Processor time, in seconds
    #[arg(long)]
    seconds: u64,
}

/// Compiles from standard input to standard output. An error is one line on standard error.
pub(super) fn run(command: &Command) -> ExitCode {
    match plugin::compile_child(command.memory, Duration::from_secs(command.seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
