//! A session's way out: a direct write while the socket keeps up, a bounded queue while it does not.
//!
//! Whoever has a frame writes it itself, because waking a task for every recipient costs more than the write. Only what
//! the kernel did not take is queued, and the session's own task sends it on when the socket is writable again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::pin;
use std::task::Poll;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::protocol::{Close, WireFrame};

/// What may happen to a frame when its client does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Never dropped: when there is no room, the socket closes.
    Durable,
    /// The first to go.
    Ephemeral,
}

/// How many frames one write hands to the kernel at most.
const BATCH: usize = 64;

/// The outbound side of one socket.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    /// Told when the socket took something that was queued, and at the end.
    taken: Notify,
    /// Told once, when the first close is asked for or the socket breaks; its one listener is the session.
    ending: Notify,
    socket: Option<OwnedWriteHalf>,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(WireFrame, Class)>,
    /// Bytes of the first frame in the queue that the kernel has taken.
    sent: usize,
    /// Bytes in the queue, those of `sent` included.
    bytes: usize,
    closing: Option<Close>,
    broken: bool,
}

impl Outbox {
    /// An outbox that holds at most `limit` bytes beyond what the kernel takes. Without a socket it only queues.
    pub fn new(socket: Option<OwnedWriteHalf>, limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            taken: Notify::new(),
            ending: Notify::new(),
            socket,
            limit,
        }
    }

    /// Sends a frame, or queues it. Never waits. At a client that has fallen behind by the limit, ephemeral frames are
    /// shed; if a durable one still finds no room, the socket closes as a slow consumer.
    pub fn push(&self, frame: WireFrame, class: Class) {
        let mut state = self.state.lock();
        if state.closing.is_some() || state.broken {
            return;
        }
        if state.queue.is_empty() {
            match self.write_now(&frame) {
                Ok(taken) if taken == frame.len() => return,
                Ok(taken) => state.sent = taken,
                Err(()) => return self.breaks(state),
            }
        }
        if self.queue(state, [(frame, class)]) {
            self.changed.notify_one();
        }
    }

    /// Queues a frame that the session sends on with whatever else it has to say by then, or somebody else by
    /// [`Outbox::flush`]: an echo, which an ack follows, and the acks. It wakes nobody. Bounded as [`Outbox::push`] is.
    pub fn push_soon(&self, frame: WireFrame, class: Class) {
        let state = self.state.lock();
        if state.closing.is_none() && !state.broken {
            self.queue(state, [(frame, class)]);
        }
    }

    /// Queues frames, or ends the session of a client that is too slow: `false`. The first in the queue always finds room: the
    /// kernel may have taken a part of it.
    fn queue(&self, mut state: MutexGuard<'_, State>, frames: impl IntoIterator<Item = (WireFrame, Class)>) -> bool {
        for (frame, class) in frames {
            let is_too_much = !state.queue.is_empty() && state.bytes + frame.len() > self.limit;
            if is_too_much && !state.make_room(frame.len(), class, self.limit) {
                if class == Class::Durable {
                    drop(state);
                    self.close(Close::SlowConsumer);
                    return false;
                }
                continue;
            }
            state.bytes += frame.len();
            state.queue.push_back((frame, class));
        }
        true
    }

    /// Sends several frames in one write, or queues what the socket does not take of them. With `soon`, all of them
    /// are queued as by [`Outbox::push_soon`]. Bounded as [`Outbox::push`] is.
    pub fn push_all(&self, frames: Vec<(WireFrame, Class)>, soon: bool) {
        let mut state = self.state.lock();
        if state.closing.is_some() || state.broken {
            return;
        }
        let mut frames = frames.into_iter();
        if state.queue.is_empty() && !soon {
            let slices: Vec<IoSlice<'_>> =
                frames.as_slice().iter().take(BATCH).map(|(frame, _)| IoSlice::new(frame.as_bytes())).collect();
            match self.write_all_now(&slices) {
                Ok(mut taken) => {
                    while let Some((frame, _)) = frames.as_slice().first().filter(|(frame, _)| frame.len() <= taken) {
                        taken -= frame.len();
                        frames.next();
                    }
                    state.sent = taken;
                }
                Err(()) => return self.breaks(state),
            }
        }
        if frames.as_slice().is_empty() {
            return;
        }
        if self.queue(state, frames) && !soon {
            self.changed.notify_one();
        }
    }

    /// Sends what was queued by [`Outbox::push_soon`], for whoever is not the session. Never waits.
    pub fn flush(&self) {
        if !matches!(self.write_queued(), Progress::Idle) {
            // The session goes on when the socket is writable, or ends.
            self.changed.notify_one();
        }
    }

    /// Returns once a frame of this size would leave at least half of the limit free, once nothing waits at all, or once
    /// the socket is closing: for a sender that can wait, so that it never makes a slow consumer of its client.
    pub async fn has_room(&self, size: usize) {
        loop {
            let mut taken = std::pin::pin!(self.taken.notified());
            taken.as_mut().enable();
            {
                let state = self.state.lock();
                let fits = state.bytes + size <= self.limit / 2;
                if fits || state.queue.is_empty() || state.closing.is_some() || state.broken {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Asks the session to end with this code; the first one asked for counts. What is queued goes out before it, but
    /// not for a client that is too slow for that.
    pub fn close(&self, close: Close) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.closing = Some(close);
            if close == Close::SlowConsumer {
                metrics::counter!("switchboard_sessions_dropped_total", "reason" => "slow_consumer").increment(1);
                state.keep_only_what_was_begun();
            }
            let frame = WireFrame::close(close);
            state.bytes += frame.len();
            state.queue.push_back((frame, Class::Durable));
            self.ending.notify_one();
        }
        drop(state);
        self.changed.notify_one();
        self.taken.notify_waiters();
    }

    /// Returns once someone has asked for a close or the socket broke.
    pub async fn closing(&self) {
        while !self.is_closing() {
            self.ending.notified().await;
        }
    }

    /// Sends what is queued whenever the socket takes it, and with each poll, so that the session's task wakes itself for
    /// nothing that it queues. Returns when the close has been sent or the socket is broken.
    pub async fn run(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            let blocked = poll_fn(|context| {
                loop {
                    match self.write_queued() {
                        Progress::Done => return Poll::Ready(false),
                        Progress::Blocked => return Poll::Ready(true),
                        Progress::Idle if changed.as_mut().poll(context).is_pending() => return Poll::Pending,
                        Progress::Idle => changed.set(self.changed.notified()),
                    }
                }
            });
            if !blocked.await {
                return;
            }
            if let Some(socket) = &self.socket
                && socket.writable().await.is_err()
            {
                return;
            }
        }
    }

    /// Whether someone has asked for a close or the socket broke.
    pub fn is_closing(&self) -> bool {
        let state = self.state.lock();
        state.closing.is_some() || state.broken
    }

    /// Bytes waiting.
    pub fn queued(&self) -> usize {
        self.state.lock().bytes
    }

    /// Takes everything that waits, for a reader that is no socket.
    pub fn take(&self) -> Vec<WireFrame> {
        let mut state = self.state.lock();
        state.bytes = 0;
        state.sent = 0;
        state.queue.drain(..).map(|(frame, _)| frame).collect()
    }

    /// The socket is broken: nothing more is sent, and the session ends.
    fn breaks(&self, mut state: MutexGuard<'_, State>) {
        state.broken = true;
        drop(state);
        self.changed.notify_one();
        self.taken.notify_waiters();
        self.ending.notify_one();
    }

    fn write_queued(&self) -> Progress {
        let mut state = self.state.lock();
        let Some(socket) = &self.socket else {
            return Progress::Idle;
        };
        while !state.queue.is_empty() && !state.broken {
            let slices: Vec<IoSlice<'_>> = state
                .queue
                .iter()
                .take(BATCH)
                .enumerate()
                .map(|(at, (frame, _))| IoSlice::new(&frame.as_bytes()[if at == 0 { state.sent } else { 0 }..]))
                .collect();
            match socket.try_write_vectored(&slices) {
                Ok(taken) => state.took(taken),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Blocked,
                Err(_) => {
                    state.broken = true;
                    self.ending.notify_one();
                }
            }
            self.taken.notify_waiters();
        }
        if state.broken || state.closing.is_some() { Progress::Done } else { Progress::Idle }
    }

    fn write_now(&self, frame: &WireFrame) -> Result<usize, ()> {
        self.socket.as_ref().map_or(Ok(0), |socket| taken(socket.try_write(frame.as_bytes())))
    }

    fn write_all_now(&self, slices: &[IoSlice<'_>]) -> Result<usize, ()> {
        self.socket.as_ref().map_or(Ok(0), |socket| taken(socket.try_write_vectored(slices)))
    }
}

/// How many bytes the kernel took; none when it has no room. The error: the socket is broken.
fn taken(written: std::io::Result<usize>) -> Result<usize, ()> {
    match written {
        Ok(taken) => Ok(taken),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(()),
    }
}

enum Progress {
    Idle,
    Blocked,
    Done,
}

impl State {
    /// Sheds queued ephemeral frames. `false`: a frame of this size still finds no room, or is itself what is shed.
    fn make_room(&mut self, size: usize, class: Class, limit: usize) -> bool {
        let mut shed = u64::from(class == Class::Ephemeral);
        if class == Class::Durable {
            let begun = self.sent > 0;
            let mut at = 0;
            let mut freed = 0;
            self.queue.retain(|(frame, class)| {
                let keep = *class == Class::Durable || (begun && at == 0);
                at += 1;
                if !keep {
                    freed += frame.len();
                    shed += 1;
                }
                keep
            });
            self.bytes -= freed;
        }
        metrics::counter!("switchboard_frames_shed_total", "reason" => "slow_consumer").increment(shed);
        class == Class::Durable && self.bytes + size <= limit
    }

    fn keep_only_what_was_begun(&mut self) {
        self.queue.truncate(usize::from(self.sent > 0));
        self.bytes = self.queue.iter().map(|(frame, _)| frame.len()).sum();
    }

    fn took(&mut self, mut taken: usize) {
        while let Some((frame, _)) = self.queue.front() {
            let left = frame.len() - self.sent;
            if taken < left {
                self.sent += taken;
                return;
            }
            taken -= left;
            self.bytes -= frame.len();
            self.sent = 0;
            self.queue.pop_front();
        }
    }
}
