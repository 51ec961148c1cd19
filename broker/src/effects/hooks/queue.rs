//! Jobs for post-commit hooks, in the order of `seq` for each channel and plugin.
//!
//! A job's key is its channel and plugin. One job of a key is in hand at a time, which keeps its messages in order;
//! different keys run side by side, up to a limit for each tenant. Nothing here runs a job, and jobs exist in memory
//! only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use crate::model::{ChannelId, ChannelKey, Message, PluginName, TenantSlug};

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Jobs of one tenant that may wait.
    pub(super) waiting: usize,
    /// Bytes of content that may wait, over all tenants.
    pub(super) bytes: usize,
    /// Jobs of one tenant that may be in hand.
    pub(super) running: usize,
}

/// A message for a plugin that watches its kind.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) channel: ChannelKey,
    pub(super) message: Arc<Message>,
    pub(super) plugin: PluginName,
    /// Hook calls between the message and an event.
    pub(super) depth: u8,
}

impl Job {
    fn key(&self) -> Key {
        (self.channel.channel, self.plugin.clone())
    }

    fn bytes(&self) -> usize {
        self.message.content.get().len() + self.message.attachments.get().len()
    }
}

type Key = (ChannelId, PluginName);

#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
    /// Notified when there may be a job to begin.
    pushed: Notify,
    /// Jobs that wait or are in hand.
    jobs: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    tenants: HashMap<TenantSlug, Tenant>,
    /// Tenants with a job to begin and a free slot, each once.
    turns: VecDeque<TenantSlug>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Tenant {
    waiting: usize,
    running: usize,
    /// Keys with a job waiting or in hand.
    queues: HashMap<Key, VecDeque<Job>>,
    /// Keys with a job waiting and none in hand.
    ready: VecDeque<Key>,
    has_turn: bool,
    /// Keys whose job was put aside and does not occupy a slot.
    aside: HashSet<Key>,
    /// Jobs put aside that want their slot back.
    returning: VecDeque<(Key, oneshot::Sender<()>)>,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), pushed: Notify::new(), jobs: watch::Sender::new(0) }
    }

    /// Adds a job, behind those of its key.
    pub(super) fn push(&self, job: Job) -> Result<(), Full> {
        let mut state = self.state.lock();
        let bytes = job.bytes();
        if state.bytes + bytes > self.bounds.bytes {
            return Err(Full);
        }
        let slug = job.channel.tenant.clone();
        let tenant = state.tenants.entry(slug.clone()).or_default();
        if tenant.waiting >= self.bounds.waiting {
            return Err(Full);
        }
        tenant.waiting += 1;
        let key = job.key();
        match tenant.queues.get_mut(&key) {
            Some(waiting) => waiting.push_back(job),
            None => {
                tenant.queues.insert(key.clone(), VecDeque::from([job]));
                tenant.ready.push_back(key);
            }
        }
        state.bytes += bytes;
        self.jobs.send_modify(|jobs| *jobs += 1);
        state.give_turn(&slug, &self.bounds);
        self.pushed.notify_one();
        Ok(())
    }

    /// The next job to begin; round robin between tenants. Only one caller at a time.
    pub(super) async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.state.lock().take(&self.bounds) {
                return job;
            }
            self.pushed.notified().await;
        }
    }

    /// Frees the job's slot while it pauses. Others of the tenant may run meanwhile, but none of its key.
    pub(super) fn put_aside(&self, job: &Job) {
        let mut state = self.state.lock();
        let slug = &job.channel.tenant;
        state.tenants.get_mut(slug).expect("a tenant with a job in hand is here").aside.insert(job.key());
        state.leave(slug, &self.bounds);
        drop(state);
        self.pushed.notify_one();
    }

    /// Takes a slot for a job that was put aside, ahead of jobs that have not begun.
    pub(super) async fn take_up(&self, job: &Job) {
        let returned = {
            let mut state = self.state.lock();
            let tenant = state.tenants.get_mut(&job.channel.tenant).expect("a tenant with a job put aside is here");
            if tenant.running < self.bounds.running {
                tenant.aside.remove(&job.key());
                tenant.running += 1;
                return;
            }
            let (place, returned) = oneshot::channel();
            tenant.returning.push_back((job.key(), place));
            returned
        };
        // The sender lives in the queue, which outlives this borrow.
        let _ = returned.await;
    }

    /// Ends a job, whatever its outcome. The next one of its key may begin.
    pub(super) fn done(&self, job: &Job) {
        let mut state = self.state.lock();
        let (slug, key) = (&job.channel.tenant, job.key());
        // A job that was put aside has given up its slot already; this happens when its task dies during a pause.
        if !state.tenants.get_mut(slug).is_some_and(|tenant| tenant.aside.remove(&key)) {
            state.leave(slug, &self.bounds);
        }
        let tenant = state.tenants.get_mut(slug).expect("a tenant with a job in hand is here");
        if tenant.queues.get(&key).is_some_and(VecDeque::is_empty) {
            tenant.queues.remove(&key);
        } else {
            tenant.ready.push_back(key);
        }
        if tenant.queues.is_empty() {
            state.tenants.remove(slug);
        }
        state.give_turn(slug, &self.bounds);
        drop(state);
        self.jobs.send_modify(|jobs| *jobs -= 1);
        self.pushed.notify_one();
    }

    /// Waits until no job waits or is in hand.
    pub(super) async fn empty(&self) {
        // The sender lives as long as this borrow, so this cannot fail.
        let _ = self.jobs.subscribe().wait_for(|jobs| *jobs == 0).await;
    }
}

impl State {
    /// Frees a slot: it goes to a job that was put aside, or else to the next job.
    fn leave(&mut self, slug: &TenantSlug, bounds: &Bounds) {
        let tenant = self.tenants.get_mut(slug).expect("a tenant with a job in hand is here");
        tenant.running -= 1;
        while let Some((key, place)) = tenant.returning.pop_front() {
            if place.send(()).is_ok() {
                tenant.aside.remove(&key);
                tenant.running += 1;
                return;
            }
        }
        self.give_turn(slug, bounds);
    }

    fn give_turn(&mut self, slug: &TenantSlug, bounds: &Bounds) {
        let Some(tenant) = self.tenants.get_mut(slug) else { return };
        if !tenant.has_turn && !tenant.ready.is_empty() && tenant.running < bounds.running {
            tenant.has_turn = true;
            self.turns.push_back(slug.clone());
        }
    }

    fn take(&mut self, bounds: &Bounds) -> Option<Job> {
        let slug = loop {
            let slug = self.turns.pop_front()?;
            let tenant = self.tenants.get_mut(&slug).expect("a tenant with a turn is here");
            tenant.has_turn = false;
            // A job that was put aside may have taken the slot meanwhile. The tenant is queued again when a slot is
            // freed.
            if tenant.running < bounds.running {
                break slug;
            }
        };
        let tenant = self.tenants.get_mut(&slug).expect("it was here");
        let key = tenant.ready.pop_front().expect("a tenant with a turn has a lane to begin");
        let job = tenant.queues.get_mut(&key).and_then(VecDeque::pop_front).expect("a lane to begin has a job");
        tenant.waiting -= 1;
        tenant.running += 1;
        self.bytes -= job.bytes();
        self.give_turn(&slug, bounds);
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::dice::Dice;
    use crate::model::{MessageId, Timestamp, User};

    const BOUNDS: Bounds = Bounds { waiting: 4, bytes: 100, running: 2 };

    fn job(tenant: &str, channel: u128, plugin: &str, seq: u64) -> Job {
        let channel = ChannelId(Uuid::from_u128(channel));
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let message = Message {
            id: MessageId(Uuid::from_u128(seq.into())),
            channel,
            seq,
            kind: "chat.message".parse().unwrap(),
            sender: User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() },
            content: raw("\"hi\""),
            reply_to: None,
            attachments: raw("[]"),
            created_at: Timestamp(0),
            edited_at: None,
            deleted_at: None,
            read_by: Vec::new(),
        };
        let channel = ChannelKey { tenant: tenant.parse().unwrap(), channel };
        Job { channel, message: Arc::new(message), plugin: plugin.parse().unwrap(), depth: 0 }
    }

    fn next(queue: &Queue) -> Option<Job> {
        queue.next().now_or_never()
    }

    fn seqs(jobs: &[Job]) -> Vec<u64> {
        jobs.iter().map(|job| job.message.seq).collect()
    }

    #[test]
    fn a_lane_goes_one_after_the_other_and_lanes_side_by_side() {
        let queue = Queue::new(BOUNDS);
        for (plugin, seq) in [("bot", 1), ("bot", 2), ("tally", 1)] {
            queue.push(job("acme", 1, plugin, seq)).unwrap();
        }
        let (first, other) = (next(&queue).unwrap(), next(&queue).unwrap());
        assert_eq!((first.plugin.as_str(), other.plugin.as_str()), ("bot", "tally"));
        queue.done(&other);
        assert!(next(&queue).is_none(), "the second waits for the first");
        queue.done(&first);
        assert_eq!(next(&queue).unwrap().message.seq, 2);
    }

    #[test]
    fn tenants_take_turns_and_none_has_more_in_hand_than_it_may() {
        let queue = Queue::new(BOUNDS);
        for channel in 1..=4 {
            queue.push(job("acme", channel, "bot", channel as u64)).unwrap();
        }
        queue.push(job("zeta", 9, "bot", 9)).unwrap();
        let begun: Vec<Job> = std::iter::from_fn(|| next(&queue)).collect();
        assert_eq!(seqs(&begun), [1, 9, 2], "two of the first tenant, and the other does not wait for them");
        queue.done(&begun[0]);
        assert_eq!(seqs(&std::iter::from_fn(|| next(&queue)).collect::<Vec<_>>()), [3]);
    }

    #[test]
    fn a_job_that_is_put_aside_leaves_its_place_and_keeps_its_lane() {
        let queue = Queue::new(BOUNDS);
        for (channel, seq) in [(1, 1), (1, 2), (2, 1), (3, 1)] {
            queue.push(job("acme", channel, "bot", seq)).unwrap();
        }
        let (later, other) = (next(&queue).unwrap(), next(&queue).unwrap());
        assert!(next(&queue).is_none(), "two are in hand");
        queue.put_aside(&later);
        let third = next(&queue).unwrap();
        assert_eq!(third.channel.channel, ChannelId(Uuid::from_u128(3)), "not the one behind it in its lane");
        let mut taken_up = Box::pin(queue.take_up(&later));
        assert!(taken_up.as_mut().now_or_never().is_none(), "two are in hand again");
        queue.done(&other);
        assert!(taken_up.now_or_never().is_some());
        queue.done(&later);
        assert_eq!(next(&queue).unwrap().message.seq, 2);
        queue.done(&third);
    }

    /// Jobs are added, begun, put aside, taken up and finished in any order.
    #[test]
    fn whatever_happens_each_lane_keeps_its_order_and_nothing_is_left() {
        type Returning = std::pin::Pin<Box<dyn Future<Output = ()>>>;
        let mut dice = Dice::new();
        let queue = Arc::new(Queue::new(Bounds { waiting: 8, bytes: 1_000, running: 3 }));
        let (mut in_hand, mut aside, mut returning) =
            (Vec::<Arc<Job>>::new(), Vec::<Arc<Job>>::new(), Vec::<(Arc<Job>, Returning)>::new());
        let (mut pushed, mut begun, mut left) = (HashMap::<_, u64>::new(), HashMap::<_, u64>::new(), 5_000);
        let of_key = |job: &Job| (job.channel.tenant.clone(), job.key());
        while left > 0 || !queue.state.lock().tenants.is_empty() {
            match dice.roll(7) {
                0 | 1 if left > 0 => {
                    let (tenant, plugin) = (["acme", "zeta"][dice.roll(2)], ["bot", "tally"][dice.roll(2)]);
                    let mut next = job(tenant, dice.roll(3) as u128, plugin, 0);
                    let seq = pushed.entry(of_key(&next)).or_default();
                    next = job(tenant, next.channel.channel.0.as_u128(), plugin, *seq + 1);
                    *seq += u64::from(queue.push(next).is_ok());
                    left -= 1;
                }
                2 | 3 => {
                    let Some(job) = next(&queue) else { continue };
                    let seq = begun.entry(of_key(&job)).or_default();
                    *seq += 1;
                    assert_eq!(job.message.seq, *seq, "in the order of its lane");
                    assert!(in_hand.iter().chain(&aside).all(|other| of_key(other) != of_key(&job)), "one of a lane");
                    in_hand.push(Arc::new(job));
                }
                4 => {
                    let Some(job) = dice.take(&mut in_hand) else { continue };
                    if dice.roll(3) > 0 {
                        queue.done(&job);
                        continue;
                    }
                    queue.put_aside(&job);
                    aside.push(job);
                }
                5 => {
                    let Some(job) = dice.take(&mut aside) else { continue };
                    if dice.roll(8) == 0 {
                        queue.done(&job);
                        continue;
                    }
                    let (queue, taken_up) = (Arc::clone(&queue), Arc::clone(&job));
                    let one: Returning = Box::pin(async move { queue.take_up(&taken_up).await });
                    returning.push((job, one));
                }
                _ => {
                    let Some((job, mut one)) = dice.take(&mut returning) else { continue };
                    match one.as_mut().now_or_never() {
                        Some(()) => in_hand.push(job),
                        // Its task dies.
                        None if dice.roll(8) == 0 => {
                            drop(one);
                            queue.done(&job);
                        }
                        None => returning.push((job, one)),
                    }
                }
            }
            for tenant in ["acme", "zeta"] {
                let of_tenant = in_hand.iter().filter(|job| job.channel.tenant.as_str() == tenant);
                assert!(of_tenant.count() <= 3, "no more than it may");
            }
        }
        assert_eq!(begun, pushed.into_iter().filter(|(_, seq)| *seq > 0).collect::<HashMap<_, _>>(), "each was begun");
        assert!(queue.empty().now_or_never().is_some() && queue.state.lock().bytes == 0);
    }

    #[test]
    fn what_is_too_much_for_a_tenant_or_for_all_is_refused() {
        let queue = Queue::new(BOUNDS);
        for seq in 1..=4 {
            queue.push(job("acme", 1, "bot", seq)).unwrap();
        }
        assert_eq!(queue.push(job("acme", 1, "bot", 5)), Err(Full));
        queue.push(job("zeta", 2, "bot", 1)).unwrap();
        let narrow = Queue::new(Bounds { bytes: 7, ..BOUNDS });
        narrow.push(job("acme", 1, "bot", 1)).unwrap();
        assert_eq!(narrow.push(job("zeta", 2, "bot", 1)), Err(Full));
        let begun = next(&narrow).unwrap();
        narrow.push(job("zeta", 2, "bot", 1)).unwrap();
        assert!(narrow.empty().now_or_never().is_none());
        narrow.done(&begun);
        narrow.done(&next(&narrow).unwrap());
        assert!(narrow.empty().now_or_never().is_some());
        assert!(narrow.state.lock().tenants.is_empty() && narrow.state.lock().bytes == 0, "nothing is left behind");
    }
}
