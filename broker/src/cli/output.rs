//! Lines on standard output.
//!
//! Whoever reads them may have enough before the end, as `head` and a pager that is left do. That is no failure of the
//! command, so the program ends without a word.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process;

/// Prints a line on standard output, as `println!` does, but ends the program quietly when nobody reads it.
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
