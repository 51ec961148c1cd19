//! Standard error, for a process that must not depend on who reads it.
//!
//! Whoever logs leaves a line and goes on. One thread writes; while nobody reads, what finds no room is dropped and counted,
//! and a write that fails is a loss of its lines and nothing else. (`tracing-appender` does most of this, and then reports
//! on standard error, for which it waits.)

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written.
const WAITING: usize = 1 << 20;

/// How long the end of the process waits for what is not written yet.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The way to standard error. A clone is the same way.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    writing: bool,
    dropped: u64,
}

impl Writer {
    /// Begins to write what is left here.
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

    /// Standard error itself. Not through `std::io::stderr`: who writes there would keep out whoever else wants to.
    pub(super) fn standard_error() -> io::Result<Self> {
        Self::start(std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// How many lines were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }

    /// Waits until everything is written, for [`LAST_WORDS`] at most.
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

/// The formatter hands over each line whole.
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
        // More than the pipe takes, than the thread holds, and than may wait.
        for _ in 0..4_000 {
            writer.write_all(&line).unwrap();
        }
        let dropped = writer.dropped();
        assert!((1..4_000).contains(&dropped), "{dropped}");
        // It is read again, and what was not dropped comes.
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
