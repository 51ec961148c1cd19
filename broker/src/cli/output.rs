//! Lines on standard output.
//!
//! A reader such as `head`, or a pager that the user quits, may close the pipe before the end. That is not an error of the
//! command, so the program then ends silently.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process;

/// Prints a line on standard output like `println!`, but ends the program silently if nobody reads it.
macro_rules! print_line {
    ($($part:tt)*) => {
        $crate::cli::output::line(format_args!($($part)*))
    };
}
pub(super) use print_line;

/// Writes a line, or ends the program.
pub(super) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        if error.kind() == ErrorKind::BrokenPipe {
            process::exit(0);
        }
        let _ = writeln!(io::stderr(), "failed to write to standard output: {error}");
        process::exit(1);
    }
}
