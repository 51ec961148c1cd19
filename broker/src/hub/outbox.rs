//! A session's outbox: direct writes while the socket keeps up, a bounded queue while it does not.
//!
//! Whoever has a frame writes it to the socket itself, because waking a task for every recipient costs more than the
//! write. Only what the kernel does not take is queued; the session's own task sends it when the socket is writable
//! again.
//!
//! Pushing never waits, and the queue is bounded. When a client falls behind by the limit, ephemeral frames are shed
//! first; if a durable frame still does not fit, the socket closes as a slow consumer. A durable frame is never dropped
//! from a connection that stays open.
//!
//! Invariant: all writes happen under the lock of `state`, and the first queued frame may have been sent in part
//! (`sent`). Bytes of two frames are therefore never interleaved, and a frame that was begun is always finished before
//! anything else is sent.
//!
//! Start with [`Outbox::push`] and [`Outbox::run`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::pin;
use std::task::Poll;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::protocol::{Close, WireFrame};

/// What may happen to a frame when its client falls behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Never dropped. If there is no room, the socket closes.
    Durable,
    /// Shed first.
    Ephemeral,
}

/// Frames in one vectored write.
const BATCH: usize = 64;

/// The outbound half of one socket.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Notify,
    /// Wakes senders that wait for room, when the socket took something and at the end.
    taken: Notify,
    /// Notified once, at the first close or when the socket breaks. Only the session listens.
    ending: Notify,
    socket: Option<OwnedWriteHalf>,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(WireFrame, Class)>,
    /// Bytes of the first queued frame that the kernel has taken already.
    sent: usize,
    /// Bytes queued, including those counted in `sent`.
    bytes: usize,
    closing: Option<Close>,
    broken: bool,
}

impl Outbox {
    /// Queues at most `limit` bytes beyond what the kernel takes. Without a socket it only queues.
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

    /// Sends or queues a frame. Never waits. If the client has fallen behind by the limit, ephemeral frames are shed;
    /// if a durable one still does not fit, the socket closes as a slow consumer.
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

    /// Queues a frame without waking anybody: an echo that its ack follows, or an ack. The session sends it with
    /// whatever else it has by then, or somebody calls [`Outbox::flush`]. Bounded as in [`Outbox::push`].
    pub fn push_soon(&self, frame: WireFrame, class: Class) {
        let state = self.state.lock();
        if state.closing.is_none() && !state.broken {
            self.queue(state, [(frame, class)]);
        }
    }

    /// Queues frames. `false`: the client was too slow and its session ends. An empty queue accepts any frame, because
    /// the kernel may have taken a part of it already.
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

    /// Sends several frames in one write and queues the rest. With `soon`, queues them all as [`Outbox::push_soon`]
    /// does. Bounded as in [`Outbox::push`].
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

    /// Sends what [`Outbox::push_soon`] has queued, on behalf of the session. Never waits.
    pub fn flush(&self) {
        if !matches!(self.write_queued(), Progress::Idle) {
            // The session sends the rest when the socket is writable, or ends.
            self.changed.notify_one();
        }
    }

    /// Waits until a frame of this size would leave half of the limit free, until nothing is queued, or until the
    /// socket is closing. For senders that can wait, so that they never make their client a slow consumer.
    pub async fn has_room(&self, size: usize) {
        loop {
            // `notify_waiters` stores no permit. Register before looking, or a notification in between is lost.
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

    /// Asks the session to end with this code; the first request counts. Queued frames go out before the close, except
    /// to a client that was too slow for them.
    pub fn close(&self, close: Close) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.closing = Some(close);
            if close == Close::SlowConsumer {
                crate::metrics::SESSIONS_DROPPED.add(["slow_consumer"], 1);
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

    /// Waits until a close was requested or the socket broke.
    pub async fn closing(&self) {
        while !self.is_closing() {
            self.ending.notified().await;
        }
    }

    /// Sends queued frames whenever the socket takes them, and on every poll, so that the session's task need not wake
    /// itself for what it queues. Returns once the close has been sent or the socket is broken.
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

    /// Whether a close was requested or the socket broke.
    pub fn is_closing(&self) -> bool {
        let state = self.state.lock();
        state.closing.is_some() || state.broken
    }

    pub fn queued(&self) -> usize {
        self.state.lock().bytes
    }

    /// Takes everything queued, for a reader that is not a socket.
    pub fn take(&self) -> Vec<WireFrame> {
        let mut state = self.state.lock();
        state.bytes = 0;
        state.sent = 0;
        state.queue.drain(..).map(|(frame, _)| frame).collect()
    }

    /// Marks the socket as broken: nothing more is sent and the session ends.
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

/// Bytes the kernel took; 0 if it has no room. An error means that the socket is broken.
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
    /// Sheds queued ephemeral frames. `false`: the new frame still does not fit, or is itself shed.
    fn make_room(&mut self, size: usize, class: Class, limit: usize) -> bool {
        let mut shed = u64::from(class == Class::Ephemeral);
        if class == Class::Durable {
            let begun = self.sent > 0;
            let mut at = 0;
            let mut freed = 0;
            // A frame that was sent in part must stay, or the stream would be corrupted.
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
        crate::metrics::FRAMES_SHED.add(["slow_consumer"], shed);
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
