//! A writer to standard error that never makes the process wait for a reader.
//!
//! Logging only queues a line; one thread writes. While nobody reads, lines for which there is no room are dropped and
//! counted, and a failed write only loses its lines. (`tracing-appender` does most of this, but reports on standard error,
//! for which it waits.)

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Maximum size of the waiting lines in bytes.
const WAITING: usize = 1 << 20;

/// How long the process waits at its end for lines that are not written yet.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A handle to the queue; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Complete lines.
    waiting: Vec<u8>,
    writing: bool,
    dropped: u64,
}

impl Writer {
    /// Starts the thread that writes the queued lines.
    pub(super) fn start(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self::default();
        let shared = Arc::clone(&writer.0);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let lines = shared.take();
                let lost = to.write_all(&lines).is_err();
                shared.written(if lost { &lines } else { &[] });
            }
        })?;
        Ok(writer)
    }

    /// Writes to standard error directly, not through `std::io::stderr`, whose lock would block other writers.
    pub(super) fn standard_error() -> io::Result<Self> {
        Self::start(std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// The number of dropped lines.
    pub(super) fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }

    /// Waits until everything is written, at most for [`LAST_WORDS`].
    pub(super) fn flush(&self) {
        let unwritten = |state: &mut State| state.writing || !state.waiting.is_empty();
        self.0.changed.wait_while_for(&mut self.0.state.lock(), unwritten, LAST_WORDS);
    }
}

impl Shared {
    fn leave(&self, lines: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len() + lines.len() > WAITING {
            state.dropped += count(lines);
            return;
        }
        state.waiting.extend_from_slice(lines);
        self.changed.notify_all();
    }

    fn take(&self) -> Vec<u8> {
        let none = |state: &mut State| state.waiting.is_empty();
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, none);
        state.writing = true;
        std::mem::take(&mut state.waiting)
    }

    fn written(&self, lost: &[u8]) {
        let mut state = self.state.lock();
        state.writing = false;
        state.dropped += count(lost);
        self.changed.notify_all();
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl MakeWriter<'_> for Writer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The formatter passes each line in one call.
impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.leave(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_logs_does_not_wait_for_a_reader_and_what_finds_no_room_is_counted() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let mut writer = Writer::start(pipe).unwrap();
        let line = [b'x'; 999].into_iter().chain([b'\n']).collect::<Vec<u8>>();
        // More than fits into the pipe, the thread's buffer and the queue together.
        for _ in 0..4_000 {
            writer.write_all(&line).unwrap();
        }
        let dropped = writer.dropped();
        assert!((1..4_000).contains(&dropped), "{dropped}");
        // Once the pipe is read again, the lines that were not dropped arrive.
        let mut read = vec![0; usize::try_from(4_000 - dropped).unwrap() * line.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read.chunks(line.len()).all(|chunk| chunk == line), "whole lines");
        writer.flush();
        writer.write_all(b"and on it goes\n").unwrap();
        let mut next = [0; 15];
        reader.read_exact(&mut next).unwrap();
        assert_eq!(&next, b"and on it goes\n");
        assert_eq!(writer.dropped(), dropped);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let (reader, pipe) = io::pipe().unwrap();
        let mut writer = Writer::start(pipe).unwrap();
        drop(reader);
        for written in 1..=3 {
            writer.write_all(b"nobody reads this\n").unwrap();
            writer.flush();
            assert_eq!(writer.dropped(), written);
        }
    }
}
