//! `switchboard compile-plugin`: what a broker starts to compile a component. Not for people.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::plugin;

#[derive(Debug, Args)]
pub(super) struct Command {
    /// Bytes of address space
    #[arg(long)]
    memory: u64,
    /// Seconds of processor time
    #[arg(long)]
    seconds: u64,
}

/// Compiles from standard input to standard output; an error is one line on standard error.
pub(super) fn run(command: &Command) -> ExitCode {
    match plugin::compile_child(command.memory, Duration::from_secs(command.seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
