//! The worker: handles a session's frames in order within a channel and side by side across channels.
//!
//! A frame is handled as soon as the effects of the previous frame in its channel are queued for storing. Its answer
//! follows when they are stored, in the order of the frames. A slow handler or store delays only its own channel.
//!
//! The worker alone knows which channels the session is in. It runs handlers but applies no effects, and it never drops
//! a job half-way: a future under way is always driven to its end, because a half-made subscription would belong to
//! nobody.
//!
//! Invariant: at most one job of a key runs at a time, and no frame is answered twice.
//!
//! Start with [`Worker::run`], then `take`, `job` and `finish`.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, Sleep, sleep_until};

use super::answers::{Addressee, Answers};
use super::handover::Handover;
use super::keyed_queue::{Entered, Key};
use super::member::Member;
use super::state::Scope;
use super::subscription::Subscription;
use crate::model::{ChannelId, ClientId};
use crate::plugin::Earlier;
use crate::protocol::{BadFrame, ClientFrame, Close, ErrorCode, EventFrame, Pong, Refusal, Since, parse};
use crate::router::{Dispatched, Routed};

/// Channels that a closing session leaves at once.
const LEAVING: usize = 16;

/// The part of a session that acts on frames. It alone knows which channels the session is in.
pub(super) struct Worker<'m> {
    member: &'m Member<'m>,
    subscriptions: HashMap<ChannelId, Arc<Subscription>>,
    /// Channels being joined, which are not in `subscriptions` yet. They count towards the limit.
    joining: usize,
    answers: Arc<Answers<Task>>,
    running: FuturesUnordered<Job<'m>>,
    /// When the next answer is given up. The timer is not stopped when that answer arrives: most sockets have sent more
    /// by then.
    overdue: Option<Pin<Box<Sleep>>>,
    /// Whether the member was removed from a channel in which something is still under way.
    is_leaving: bool,
    /// The last effects queued in each channel. The next event's reads wait for them.
    earlier: HashMap<ChannelId, Earlier>,
    frames: &'m Handover,
    /// The channel of a socket that serves only one.
    only: Option<ChannelId>,
}

#[derive(Debug)]
enum Task {
    /// Ordered behind the earlier tasks of its channel.
    Channel(ChannelId, Work),
    /// `auth.refresh`, which concerns the socket itself.
    Refresh { id: Option<ClientId>, token: String },
}

#[derive(Debug)]
enum Work {
    Event(EventFrame),
    Subscribe {
        id: Option<ClientId>,
        since: Option<Since>,
    },
    Unsubscribe {
        id: Option<ClientId>,
    },
    /// Leave, because the member was removed from the channel.
    Revoked,
}

/// The result of a job.
enum Done {
    Nothing,
    /// A frame was handled and has to be answered.
    Handled(Arc<Subscription>, Option<ClientId>, Dispatched),
    /// A `subscribe` ended, with or without a subscription.
    Joined(Option<Arc<Subscription>>),
    /// The session must close.
    Close(Close),
}

type Job<'m> = Pin<Box<dyn Future<Output = (Key, Done)> + Send + 'm>>;

impl<'m> Worker<'m> {
    pub(super) fn new(member: &'m Member<'m>, frames: &'m Handover) -> Self {
        Self {
            member,
            subscriptions: HashMap::new(),
            joining: 0,
            answers: Answers::new(Arc::clone(&member.session.outbox), member.session.services.clock.clone()),
            running: FuturesUnordered::new(),
            overdue: None,
            is_leaving: false,
            earlier: HashMap::new(),
            frames,
            only: None,
        }
    }

    /// Sends the welcome, or joins the one channel that the socket serves.
    pub(super) async fn open(&mut self) -> Result<(), Close> {
        let member = self.member;
        let (name, since) = match &member.session.scope {
            Scope::Many => {
                member.session.welcome(&member.principal);
                return Ok(());
            }
            Scope::One { channel, since } => (channel, since),
            #[cfg(feature = "conformance")]
            Scope::Echo => return Err(Close::Forbidden),
        };
        // A malformed position does not keep the client out: it gets the channel's state instead.
        let since = since.as_ref().map(|since| since.parse::<Since>());
        if let Some(Err(refusal)) = &since {
            member.refuse(None, refusal);
        }
        let asked = since.is_some();
        let joined = match name.parse::<ChannelId>() {
            Ok(channel) => member.join(channel, since.and_then(Result::ok), asked).await,
            Err(_) => Err(Refusal::unknown_channel()),
        };
        match joined {
            Ok(arrival) => {
                self.only = Some(arrival.subscription.key.channel);
                if arrival.first {
                    arrival.subscription.attendance.announce().await;
                }
                self.subscriptions.insert(arrival.subscription.key.channel, Arc::new(arrival.subscription));
                Ok(())
            }
            Err(refusal) => {
                member.refuse(None, &refusal);
                Err(match refusal.code {
                    ErrorCode::UnknownChannel => Close::Forbidden,
                    ErrorCode::RateLimited => Close::RateLimited,
                    _ => Close::Overloaded,
                })
            }
        }
    }

    /// Works until the session must close. `None` means that no frame comes any more and every one is answered.
    pub(super) async fn run(&mut self) -> Option<Close> {
        let revoked = Arc::clone(&self.member.revoked);
        let mut more = true;
        loop {
            if self.member.session.out_of_time.load(Ordering::Relaxed) {
                self.answers.queue(|queue| queue.give_up_waiting());
                more = false;
            }
            let (has_room, is_answered) = self.look(more);
            if !more && self.running.is_empty() && is_answered {
                return None;
            }
            tokio::select! {
                Some((key, done)) = self.running.next(), if !self.running.is_empty() => {
                    if let Some(close) = self.finish(key, done) {
                        return Some(close);
                    }
                }
                queue = self.answers.given() => self.go_on_after(queue),
                frame = self.frames.take(), if more && has_room => match frame {
                    Some(text) => self.take(text),
                    None => more = false,
                },
                () = revoked.notified() => self.leave_revoked(),
                () = ends(&mut self.overdue) => self.give_up(),
            }
        }
    }

    /// Whether there is room for another frame, and whether all are answered. A socket for one channel stops reading
    /// when that channel's key is full. A socket for many refuses the frame instead, so that one channel cannot hold up
    /// the others.
    fn look(&self, more: bool) -> (bool, bool) {
        let (only, is_leaving) = (self.only, self.is_leaving);
        self.answers.look(|queue| {
            let has_room = queue.have_room() && !only.is_some_and(|only| queue.is_full(Some(only)));
            let is_waiting = !more || !has_room || queue.has_waiting() || is_leaving;
            (is_waiting, (has_room, queue.is_answered()))
        })
    }

    /// Finishes what is under way and leaves every channel.
    pub(super) async fn leave_all(&mut self) {
        self.answers.queue(|queue| queue.give_up_waiting());
        while let Some((key, done)) = self.running.next().await {
            self.finish(key, done);
        }
        // What is queued is stored whether or not anybody waits. Waiting keeps the order that others see: first the
        // stored messages, then the member's departure.
        while let (_, false) = self.look(false) {
            tokio::select! {
                _ = self.answers.given() => {}
                () = ends(&mut self.overdue) => self.give_up(),
            }
        }
        let subscriptions = std::mem::take(&mut self.subscriptions);
        futures_util::stream::iter(subscriptions.into_values())
            .for_each_concurrent(LEAVING, |subscription| async move { subscription.attendance.leave().await })
            .await;
    }

    /// Answers the frames whose time is up.
    fn give_up(&mut self) {
        let next = self.answers.give_up(Instant::now());
        self.overdue = next.map(|by| Box::pin(sleep_until(by)));
    }

    /// Parses a frame and queues it under its key.
    fn take(&mut self, text: String) {
        let (member, bytes) = (self.member, text.len());
        let frame = match parse(text) {
            Ok(frame) => frame,
            Err(BadFrame { id, refusal }) => return member.refuse(id.as_ref(), &refusal),
        };
        if let Err(too_many) = member.frames.take() {
            return member.refuse(frame.id(), &too_many.into());
        }
        match frame {
            ClientFrame::Event(event) => match self.channel_of(&event) {
                Ok(channel) => self.enter(Task::Channel(channel, Work::Event(event)), bytes),
                Err(refusal) => member.refuse(event.id.as_ref(), &refusal),
            },
            ClientFrame::Ping { id } => {
                member.send(&Pong {});
                member.acknowledge(id.as_ref());
            }
            ClientFrame::Subscribe { id, .. } | ClientFrame::Unsubscribe { id, .. } if self.only.is_some() => {
                member.refuse(id.as_ref(), &bad("this socket serves one channel; open /ws/ for several"));
            }
            ClientFrame::Subscribe { id, channel, since } => {
                self.enter(Task::Channel(channel, Work::Subscribe { id, since }), bytes);
            }
            ClientFrame::Unsubscribe { id, channel } => {
                self.enter(Task::Channel(channel, Work::Unsubscribe { id }), bytes);
            }
            ClientFrame::Auth { id, .. } => {
                member.refuse(id.as_ref(), &bad("this socket is already authenticated; use auth.refresh"));
            }
            ClientFrame::AuthRefresh { id, token } => self.enter(Task::Refresh { id, token }, bytes),
        }
    }

    fn channel_of(&self, event: &EventFrame) -> Result<ChannelId, Refusal> {
        match (self.only, event.channel) {
            (Some(only), None) => Ok(only),
            (Some(only), Some(named)) if only == named => Ok(only),
            (None, Some(named)) => Ok(named),
            (Some(_), Some(_)) => Err(Refusal::unknown_channel()),
            (None, None) => Err(bad("`channel` is missing")),
        }
    }

    fn enter(&mut self, task: Task, bytes: usize) {
        let (key, alone) = (task.key(), !matches!(task, Task::Channel(_, Work::Event(_))));
        match self.answers.queue(|queue| queue.enter(key, task, alone, bytes)) {
            Entered::Now(task) => self.start(task),
            Entered::Later => {}
            Entered::Full(task) => {
                crate::metrics::FRAMES_REFUSED.add(["lane_full"], 1);
                let refusal =
                    Refusal::new(ErrorCode::Overloaded, "too many frames of this channel are waiting; try again");
                self.member.refuse(task.id(), &Refusal { retry_after_ms: Some(250), ..refusal });
            }
        }
    }

    /// Starts a task. If it is done at once, starts the next one of its key.
    fn start(&mut self, task: Task) {
        let key = task.key();
        match self.job(task) {
            Some(job) => self.running.push(job),
            None => self.go_on(key),
        }
    }

    /// Starts the next task of a key.
    fn go_on(&mut self, key: Key) {
        // A member who was removed leaves the channel before anything else happens in it.
        if let Some(channel) = key.filter(|channel| self.is_gone(*channel))
            && self.answers.queue(|queue| queue.begin_alone(key))
        {
            return self.start(Task::Channel(channel, Work::Revoked));
        }
        if let Some(next) = self.answers.queue(|queue| queue.next(key)) {
            self.start(next);
        }
    }

    /// Starts what waited behind answers that have been given.
    fn go_on_after(&mut self, answered: Vec<Key>) {
        for key in answered {
            self.go_on(key);
        }
        if self.is_leaving {
            self.leave_revoked();
        }
    }

    /// Ends the work on a frame and promises its answer. Starts the give-up timer if none runs.
    fn answer_later(&mut self, key: Key, addressee: Addressee, by: Option<Instant>) -> u64 {
        if self.overdue.is_none() {
            self.overdue = by.map(|by| Box::pin(sleep_until(by)));
        }
        self.answers.queue(|queue| queue.answer_later(key, addressee, by))
    }

    /// Refuses the frame being worked on, behind the answers of earlier frames.
    fn refuse(&mut self, key: Key, id: Option<ClientId>, refusal: Refusal) {
        let number = self.answer_later(key, Addressee { subscription: None, id }, None);
        self.answers.give(key, number, Routed::Refused(refusal));
    }

    /// The job of a task; `None` if it is done already.
    fn job(&mut self, task: Task) -> Option<Job<'m>> {
        let (member, key) = (self.member, task.key());
        let (channel, work) = match task {
            Task::Channel(channel, work) => (channel, work),
            Task::Refresh { id, token } => {
                return Some(Box::pin(async move {
                    let close = member.refresh(id.as_ref(), &token).await;
                    (key, close.map_or(Done::Nothing, Done::Close))
                }));
            }
        };
        match work {
            Work::Event(event) => {
                let Some(subscription) =
                    self.subscriptions.get(&channel).filter(|subscription| !subscription.subscriber.is_gone()).cloned()
                else {
                    self.refuse(key, event.id, Refusal::unknown_channel());
                    return None;
                };
                let (id, earlier) = (event.id.clone(), self.earlier.get(&channel).cloned());
                Some(Box::pin(async move {
                    let dispatched = member.handle(&subscription, event, earlier.as_ref()).await;
                    (key, Done::Handled(subscription, id, dispatched))
                }))
            }
            Work::Subscribe { id, since } => {
                let before = self.subscriptions.remove(&channel);
                if before.is_none()
                    && self.subscriptions.len() + self.joining >= member.session.services.limits.subscriptions
                {
                    let refusal = "this socket has reached its limit of channels";
                    self.refuse(key, id, Refusal::new(ErrorCode::LimitExceeded, refusal));
                    return None;
                }
                self.joining += 1;
                Some(Box::pin(async move {
                    let subscription = member.subscribe(id.as_ref(), channel, since, before).await;
                    (key, Done::Joined(subscription))
                }))
            }
            Work::Unsubscribe { id } => {
                let Some(subscription) = self.subscriptions.remove(&channel) else {
                    self.refuse(key, id, Refusal::unknown_channel());
                    return None;
                };
                Some(Box::pin(async move {
                    member.unsubscribe(&subscription).await;
                    member.acknowledge(id.as_ref());
                    (key, Done::Nothing)
                }))
            }
            Work::Revoked => {
                let Some(subscription) = self.subscriptions.remove(&channel) else {
                    self.answers.queue(|queue| queue.finish(key));
                    return None;
                };
                let only = self.only.is_some();
                Some(Box::pin(async move {
                    if only {
                        subscription.attendance.leave().await;
                        return (key, Done::Close(Close::Revoked));
                    }
                    member.unsubscribe(&subscription).await;
                    (key, Done::Nothing)
                }))
            }
        }
    }

    fn finish(&mut self, key: Key, done: Done) -> Option<Close> {
        match done {
            Done::Nothing => self.answers.queue(|queue| queue.finish(key)),
            Done::Close(close) => return Some(close),
            Done::Joined(subscription) => {
                self.answers.queue(|queue| queue.finish(key));
                self.joining -= 1;
                if let Some(subscription) = subscription {
                    self.subscriptions.insert(subscription.key.channel, subscription);
                }
            }
            Done::Handled(subscription, id, dispatched) => {
                let addressee = Addressee { subscription: Some(subscription), id };
                match dispatched {
                    Dispatched::Now(routed) => {
                        let number = self.answer_later(key, addressee, None);
                        self.answers.give(key, number, routed);
                    }
                    Dispatched::Later(later) => {
                        if let Some(channel) = key {
                            // Settled entries have nothing to wait for. Removing them here bounds the map by what is
                            // under way.
                            self.earlier.retain(|_, earlier| !earlier.is_settled());
                            self.earlier.insert(channel, later.earlier().clone());
                        }
                        let number = self.answer_later(key, addressee, Some(later.by()));
                        let answers = Arc::clone(&self.answers);
                        later.then(move |routed| answers.bring(key, number, routed));
                    }
                }
            }
        }
        self.go_on(key);
        None
    }

    /// Leaves the channels that the member was removed from. Where something is under way, leaving waits until that is
    /// done.
    fn leave_revoked(&mut self) {
        let gone: Vec<_> = self.subscriptions.keys().copied().filter(|channel| self.is_gone(*channel)).collect();
        self.is_leaving = false;
        for channel in gone {
            if self.answers.queue(|queue| queue.is_busy(Some(channel))) {
                self.is_leaving = true;
            } else {
                self.enter(Task::Channel(channel, Work::Revoked), 0);
            }
        }
    }

    fn is_gone(&self, channel: ChannelId) -> bool {
        self.subscriptions.get(&channel).is_some_and(|subscription| subscription.subscriber.is_gone())
    }
}

impl Task {
    fn key(&self) -> Key {
        match self {
            Task::Channel(channel, _) => Some(*channel),
            Task::Refresh { .. } => None,
        }
    }

    fn id(&self) -> Option<&ClientId> {
        match self {
            Task::Channel(_, Work::Event(event)) => event.id.as_ref(),
            Task::Channel(_, Work::Subscribe { id, .. } | Work::Unsubscribe { id }) | Task::Refresh { id, .. } => {
                id.as_ref()
            }
            Task::Channel(_, Work::Revoked) => None,
        }
    }
}

/// Waits for a timer, or for ever without one.
async fn ends(time: &mut Option<Pin<Box<Sleep>>>) {
    match time {
        Some(time) => time.await,
        None => std::future::pending().await,
    }
}

fn bad(message: &'static str) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, message)
}
