//! The committer: the only path from an event into the store, and from there to publishing.
//!
//! Commits are stored in batches that share a transaction and its write to disk (group commit). Batches form by
//! themselves: a commit that finds nothing of its tenant under way goes at once, and while a batch is under way later
//! commits gather for the next. No commit waits for company, and batches grow with the load.
//!
//! A batch holds its channels, and the plugins whose keys it writes. A batch that is held up, as by a row lock, delays
//! commits that need the same and no others: another drain takes the rest.
//!
//! Invariants: the task that stores a batch also publishes it, in batch order, before another batch of the same
//! channels may begin, and answers afterwards. What is published of a channel is therefore in the order of its `seq`,
//! whatever callers do; a caller may go away at any moment. Every commit is answered exactly once.
//!
//! The committer knows neither what a commit means nor how it is published. Start with [`Committer::queue`], then
//! `Drain::take` and `settle`.

mod batch;
mod pending;
mod settle;

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use self::batch::{Held, Waiting};
pub use self::batch::{Publish, Published, Then};
use self::pending::promise;
pub use self::pending::{Answer, Flush, Pending, Receiver, given_up};
use self::settle::settle;
use crate::model::{ChannelKey, TenantSlug};
use crate::protocol::{ErrorCode, Refusal};
use crate::store::{Commit, Store};

/// Commits in a batch. Beyond this, a batch's cost grows in proportion to its size.
const BATCH_COMMITS: usize = 128;

/// Bytes of content in a batch, unless a single commit has more.
const BATCH_BYTES: usize = 1 << 20;

/// Commits of a tenant that may wait for a batch: about a fifth of a second's work.
const WAITING: usize = 4_096;

/// How long a commit may take, including the wait for its batch. A commit that is still in no batch by then is dropped:
/// its client was told to try again. This is longer than one store call, and leaves the rest of the path part of the
/// five seconds that a client is promised.
const PATIENCE: Duration = Duration::from_secs(4);
const _: () = assert!(PATIENCE.as_secs() < 5);

/// How long a batch may take before new commits stop waiting for it. Long enough for batches to fill: of 0.3, 1, 2 and
/// 25 milliseconds, with 64 publishers, 2 stored the most.
const HELD_UP: Duration = Duration::from_millis(2);

/// How often `watch` looks for batches that are held up while commits wait, in case no new commit arrives to notice.
/// One watcher serves all: a timer for each batch would cost a busy broker a wake-up for every other batch.
const LOOK: Duration = Duration::from_millis(25);

/// The watcher ends after this many looks with nothing in hand.
const QUIET_LOOKS: u32 = 40;

/// Stores and publishes. `T` is what is published of a commit.
pub struct Committer<T = ()> {
    store: Arc<dyn Store>,
    publish: Arc<dyn Publish<T>>,
    /// The queue of each tenant. A tenant with nothing in hand is absent.
    queues: Mutex<Queues<T>>,
    /// Whether the watcher runs. Only changed under the lock of `queues`, so `Relaxed` is enough.
    watched: AtomicBool,
    batches: AtomicU64,
    waiting: usize,
    patience: Duration,
}

type Queues<T> = HashMap<TenantSlug, Queue<T>>;

/// What one tenant has waiting and under way.
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// What the batches under way hold, with the batch's number. Commits that need any of it wait, so that no batch
    /// ever waits for another one's locks.
    busy: HashMap<Held, u64>,
    drains: usize,
    /// The number of the newest drain.
    last_drain: u64,
    /// The drain that takes the next batch, and when its current batch began. Older drains are held up and end after
    /// their batch.
    free: Option<(u64, Instant)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), busy: HashMap::new(), drains: 0, last_drain: 0, free: None }
    }
}

impl<T> Queue<T> {
    /// Whether a batch under way holds something that this needs.
    fn holds(&self, next: &Waiting<T>) -> bool {
        next.needs().any(|held| self.busy.contains_key(&held))
    }
}

impl<T> std::fmt::Debug for Committer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl Committer {
    /// A committer that publishes nothing.
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Self::with_limits(store, WAITING, PATIENCE)
    }

    /// As [`Committer::new`], with other bounds: commits of a tenant that may wait, and the time one may take.
    pub fn with_limits(store: Arc<dyn Store>, waiting: usize, patience: Duration) -> Arc<Self> {
        Self::bounded(store, Arc::new(()), waiting, patience)
    }

    /// Commits and waits for the outcome.
    pub async fn commit(self: &Arc<Self>, tenant: &TenantSlug, commit: Commit) -> Answer {
        self.queue(tenant, commit, ())?.outcome().await
    }
}

impl<T: Send + 'static> Committer<T> {
    pub fn publishing(store: Arc<dyn Store>, publish: Arc<dyn Publish<T>>) -> Arc<Self> {
        Self::bounded(store, publish, WAITING, PATIENCE)
    }

    /// As [`Committer::publishing`], with other bounds: commits of a tenant that may wait, and the time one may take.
    pub fn bounded(
        store: Arc<dyn Store>,
        publish: Arc<dyn Publish<T>>,
        waiting: usize,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            publish,
            queues: Mutex::default(),
            watched: AtomicBool::new(false),
            batches: AtomicU64::new(0),
            waiting,
            patience,
        })
    }

    /// Queues a commit for its tenant's next batch. Once queued it is stored and published, whether or not anybody
    /// waits for it. Refused as `overloaded` when too many wait.
    pub fn queue(self: &Arc<Self>, tenant: &TenantSlug, commit: Commit, what: T) -> Result<Pending, Refusal> {
        let by = Instant::now() + self.patience;
        let (answer, pending) = promise(by);
        let channel = commit.channel;
        self.enter(tenant, Waiting { channel, commit: Some(commit), what, answer: Some(answer), by })?;
        Ok(pending)
    }

    /// The number of the batch that is storing something of a channel, or has stored it and not published it yet.
    pub fn batch_of(&self, channel: &ChannelKey) -> Option<u64> {
        let queues = self.queues.lock();
        queues.get(&channel.tenant)?.busy.get(&Held::Channel(channel.channel)).copied()
    }

    /// Publishes at once, without storing.
    pub fn publish_now(&self, channel: &ChannelKey, what: T) {
        self.publish.publish(channel, vec![Published { what, committed: None }], Box::new(|| ()));
    }

    /// Publishes without storing, behind everything of the channel that is queued or being stored. Refused as
    /// `overloaded` when too many wait.
    pub fn publish_in_order(self: &Arc<Self>, channel: &ChannelKey, what: T) -> Result<(), Refusal> {
        let by = Instant::now() + self.patience;
        self.enter(&channel.tenant, Waiting { channel: channel.channel, commit: None, what, answer: None, by })
    }

    /// Queues an item, and starts a drain if no running one will take it soon.
    fn enter(self: &Arc<Self>, tenant: &TenantSlug, next: Waiting<T>) -> Result<(), Refusal> {
        let mut queues = self.queues.lock();
        let queue = queues.entry(tenant.clone()).or_default();
        if queue.waiting.len() >= self.waiting {
            let refusal = Refusal::new(ErrorCode::Overloaded, "too many events are waiting to be stored; try again");
            return Err(Refusal { retry_after_ms: Some(250), ..refusal });
        }
        queue.waiting.push_back(next);
        let drain = self.drain(tenant, queue);
        drop(queues);
        if let Some(drain) = drain {
            // A task of its own: storing and publishing must not depend on whether the caller stays.
            tokio::spawn(drain.run());
        }
        Ok(())
    }

    /// A new drain, if none is free and there is a batch for it.
    fn drain(self: &Arc<Self>, tenant: &TenantSlug, queue: &mut Queue<T>) -> Option<Drain<T>> {
        let now = Instant::now();
        let is_one_free = queue.free.is_some_and(|(_, since)| now - since < HELD_UP);
        let has_work = || queue.waiting.iter().any(|next| !queue.holds(next));
        if is_one_free || queue.drains >= self.store.batches_at_once() || !has_work() {
            return None;
        }
        queue.drains += 1;
        queue.last_drain += 1;
        queue.free = Some((queue.last_drain, now));
        if !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
        Some(Drain {
            committer: Arc::clone(self),
            tenant: tenant.clone(),
            number: queue.last_drain,
            held: Vec::new(),
            ended: false,
        })
    }
}

/// Starts another drain wherever commits wait behind a batch that is held up.
async fn watch<T: Send + 'static>(committer: Weak<Committer<T>>) {
    let mut quiet = 0;
    loop {
        sleep(LOOK).await;
        let Some(committer) = committer.upgrade() else { return };
        let mut queues = committer.queues.lock();
        quiet = if queues.is_empty() { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS {
            committer.watched.store(false, Ordering::Relaxed);
            return;
        }
        let drains: Vec<_> = queues.iter_mut().filter_map(|(tenant, queue)| committer.drain(tenant, queue)).collect();
        drop(queues);
        for drain in drains {
            tokio::spawn(drain.run());
        }
    }
}

/// Permission to commit a tenant's batches, one after another. Ends when nothing is left for it, or with its task.
struct Drain<T> {
    committer: Arc<Committer<T>>,
    tenant: TenantSlug,
    number: u64,
    /// What the batch under way holds.
    held: Vec<Held>,
    ended: bool,
}

impl<T: Send + 'static> Drain<T> {
    /// Commits batch after batch until nothing is left.
    fn run(mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Some(batch) = self.take() {
                settle(&self.committer.store, &*self.committer.publish, &self.tenant, batch).await;
            }
        })
    }

    /// Assembles the next batch: the oldest items within the bounds, skipping what another batch holds, and no
    /// idempotency key of a sender twice. The second commit with a key waits for a later batch, where it finds the
    /// first one stored. `None`: nothing is left that no other drain will take.
    fn take(&mut self) -> Option<Vec<Waiting<T>>> {
        let committer = Arc::clone(&self.committer);
        let mut queues = committer.queues.lock();
        let queue = queues.get_mut(&self.tenant)?;
        for held in self.held.drain(..) {
            queue.busy.remove(&held);
        }
        // Another drain became the free one while this batch was held up. It takes what waits.
        if queue.free.is_some_and(|(free, _)| free != self.number) {
            self.end(&mut queues);
            return None;
        }
        let now = Instant::now();
        queue.free = Some((self.number, now));
        let (mut batch, mut keys, mut bytes) = (Vec::<Waiting<T>>::new(), HashSet::new(), 0);
        let (mut later, mut left) = (Vec::new(), HashSet::new());
        while batch.len() < BATCH_COMMITS
            && bytes < BATCH_BYTES
            && let Some(next) = queue.waiting.pop_front()
        {
            if next.by <= now {
                next.give_up();
                continue;
            }
            let key = next
                .commit
                .as_ref()
                .and_then(|commit| commit.request.as_ref().map(|(key, _)| (commit.sender.id.clone(), key.clone())));
            // Once an item is left for later, everything behind it in its channel is as well, to keep the channel's
            // order.
            let waits = queue.holds(&next) || left.contains(&next.channel);
            if waits || key.is_some_and(|key| !keys.insert(key)) {
                left.insert(next.channel);
                later.push(next);
                continue;
            }
            bytes += next.commit.as_ref().map_or(0, weight);
            batch.push(next);
        }
        for next in later.into_iter().rev() {
            queue.waiting.push_front(next);
        }
        if batch.is_empty() {
            self.end(&mut queues);
            return None;
        }
        self.held = batch.iter().flat_map(Waiting::needs).collect();
        let number = committer.batches.fetch_add(1, Ordering::Relaxed);
        queue.busy.extend(self.held.iter().map(|held| (held.clone(), number)));
        Some(batch)
    }
}

impl<T> Drain<T> {
    /// Ends the drain, under the same lock as the look at the queue: otherwise a new commit could count on a drain that
    /// is about to end.
    fn end(&mut self, queues: &mut Queues<T>) {
        self.ended = true;
        let Some(queue) = queues.get_mut(&self.tenant) else { return };
        for held in self.held.drain(..) {
            queue.busy.remove(&held);
        }
        queue.drains -= 1;
        queue.free = queue.free.filter(|(free, _)| *free != self.number);
        if queue.drains == 0 {
            queues.remove(&self.tenant);
        }
    }
}

impl<T> Drop for Drain<T> {
    /// Runs after a panic. The batch's promises answer as they are dropped; another drain takes what waits.
    fn drop(&mut self) {
        if !self.ended {
            let committer = Arc::clone(&self.committer);
            self.end(&mut committer.queues.lock());
        }
    }
}

fn weight(commit: &Commit) -> usize {
    let drafts = commit.drafts.iter().map(|(_, draft)| draft.content.get().len() + draft.attachments.get().len());
    let contents = commit.amendments.iter().filter_map(|amendment| amendment.content.as_ref());
    let writes = commit.kv.iter().flat_map(|(_, writes)| writes);
    drafts.sum::<usize>()
        + contents.map(|content| content.get().len()).sum::<usize>()
        + writes.map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Draft, MessageId, Role, User};
    use crate::store::sqlite::Sqlite;
    use crate::store::{NewChannel, Outcome};

    #[tokio::test]
    async fn a_tenant_with_nothing_in_hand_is_forgotten() {
        let clock = Clock::system();
        let folder = std::env::temp_dir().join(format!("switchboard-{}", clock.uuid().simple()));
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder).await.unwrap());
        let tenant: TenantSlug = "acme".parse().unwrap();
        store.create_tenant(&tenant, None, clock.now()).await.unwrap().unwrap();
        let alice = User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() };
        store.create_member(&tenant, &alice, None, clock.now()).await.unwrap();
        let channel = NewChannel {
            id: crate::model::ChannelId(clock.uuid()),
            name: "lobby".into(),
            epoch: clock.epoch(),
            members: vec![(alice.id.clone(), Role::Owner)],
            at: clock.now(),
        };
        store.create_channel(&tenant, &channel).await.unwrap();

        let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
        let draft =
            Draft { kind: "chat.message".parse().unwrap(), content: raw("1"), reply_to: None, attachments: raw("[]") };
        let (sender, drafts) = (alice, vec![(MessageId(clock.uuid()), draft)]);
        let commit = Commit {
            channel: channel.id,
            sender,
            request: None,
            drafts,
            reads: Vec::new(),
            amendments: Vec::new(),
            kv: None,
            at: clock.now(),
        };
        let committer = Committer::new(store);
        assert!(matches!(committer.commit(&tenant, commit.clone()).await, Ok(Outcome::Done(_))));
        // A tenant that the store does not know counts as well.
        let missing = committer.commit(&"nobody".parse().unwrap(), commit).await;
        assert_eq!(missing.unwrap_err().code, ErrorCode::Internal);
        // A drain ends just after its answers.
        let forgotten = async {
            while !committer.queues.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), forgotten).await.expect("nothing is in hand");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
