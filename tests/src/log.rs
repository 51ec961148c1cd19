//! What a process writes, line by line, as it comes.
//!
//! Lines are kept up to a bound; they are for waiting on and for failure messages, not for asserting on wording.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::PROCESS_DEADLINE;

const KEPT_LINES: usize = 2_000;

/// One output stream of a process.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Counts the lines; the sender is gone when the stream has ended.
    grown: watch::Receiver<u64>,
}

impl Log {
    /// Reads a stream to its end in a task of its own, so that the process never waits for a reader.
    pub(crate) fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, grown) = watch::channel(0);
        let log = Self { lines, grown };
        let writer = log.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while let Ok(Some(line)) = stream.next_line().await {
                let mut lines = writer.lines();
                if lines.len() == KEPT_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
                drop(lines);
                sender.send_modify(|count| *count += 1);
            }
        });
        log
    }

    /// Reads a stream as far as a line that is looked for, and hands back the rest of it.
    ///
    /// # Panics
    /// When there is no such line.
    pub(crate) async fn follow_until<S: AsyncRead + Unpin>(
        stream: S,
        last: impl Fn(&str) -> bool,
    ) -> (Self, BufReader<S>) {
        let mut stream = BufReader::new(stream);
        let log = Self { lines: Arc::default(), grown: watch::channel(0).1 };
        let reading = async {
            let mut line = String::new();
            while !last(line.trim_end()) {
                line.clear();
                assert_ne!(stream.read_line(&mut line).await.expect("UTF-8"), 0, "ended:\n{}", log.text());
                log.lines().push_back(line.trim_end().to_owned());
            }
        };
        timeout(PROCESS_DEADLINE, reading).await.expect("the line comes");
        (log, stream)
    }

    /// Waits until a kept line is what is looked for. `Err`: the stream ended, or the deadline passed, without it.
    pub(crate) async fn find<T>(&self, mut pick: impl FnMut(&str) -> Option<T>) -> Result<T, &'static str> {
        let mut grown = self.grown.clone();
        let search = async {
            loop {
                grown.borrow_and_update();
                if let Some(found) = self.lines().iter().find_map(|line| pick(line)) {
                    return Ok(found);
                }
                if grown.changed().await.is_err() {
                    // The last line may have come between the look and the end of the stream.
                    return self.lines().iter().find_map(|line| pick(line)).ok_or("the process ended");
                }
            }
        };
        timeout(PROCESS_DEADLINE, search).await.unwrap_or(Err("the deadline passed"))
    }

    /// Waits until the stream has ended, which it has soon after the process has.
    pub(crate) async fn ended(&self) {
        let mut grown = self.grown.clone();
        let end = async { while grown.changed().await.is_ok() {} };
        timeout(PROCESS_DEADLINE, end).await.expect("a stream ends with its process");
    }

    /// Everything kept so far.
    pub(crate) fn text(&self) -> String {
        self.lines().iter().fold(String::new(), |text, line| text + line + "\n")
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
