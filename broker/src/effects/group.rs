//! Gathers the commits of many events into batches, so that they share a transaction and its write to the disk.
//!
//! The gathering is natural: a commit that finds nothing of its tenant under way goes at once, and while a batch is under
//! way the later ones wait for the next. So nobody waits for company, and the busier the store is the larger the batches
//! become. A batch that is held up, as by a lock on one of its channels, holds up these channels, and the plugins whose keys
//! it writes, and no others. Nothing here knows what a commit means, or what follows from its outcome.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::refusal;
use crate::model::{ChannelId, PluginName, TenantSlug};
use crate::protocol::{ErrorCode, Refusal};
use crate::store::{Commit, Committed, Outcome, Store, StoreError};

/// How many commits a batch has at most. Beyond this a batch costs as much more as it holds more.
const BATCH_COMMITS: usize = 128;

/// How many bytes of content a batch has at most, unless a single commit has more.
const BATCH_BYTES: usize = 1 << 20;

/// How many commits of a tenant may wait for a batch: about a fifth of a second's work.
const WAITING: usize = 4_096;

/// How long a commit may take, the wait for its batch counted in. It is longer than a call of the store, and leaves what
/// comes before and after it a part of the five seconds that a client is promised.
const PATIENCE: Duration = Duration::from_secs(4);
const _: () = assert!(PATIENCE.as_secs() < 5);

/// How long a batch may take before the next one does not wait for it any longer. Long enough for batches to fill; of
/// 0.3, 1, 2 and 25 milliseconds, with 64 publishers, this one stored the most.
const HELD_UP: Duration = Duration::from_millis(2);

/// How many channels of a batch that the store refused are tried side by side.
const ALONE: usize = 4;

/// The one way of an event into the store.
pub struct Committer {
    store: Arc<dyn Store>,
    /// What each tenant has in hand; those that have nothing are not here.
    lanes: Mutex<Lanes>,
    waiting: usize,
    patience: Duration,
}

type Lanes = HashMap<TenantSlug, Lane>;

/// What a tenant has in hand.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    /// What the batches under way hold. Further commits that need it wait for these, so that no batch waits for another
    /// one's locks.
    busy: HashSet<Held>,
    /// How many turns there are.
    turns: usize,
    /// Whether one of them is not held up: the others need not go on when they are done.
    has_free_turn: bool,
}

/// What a commit holds as long as its batch is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Held {
    /// The numbers of a channel, and its messages.
    Channel(ChannelId),
    /// The keys of a plugin.
    Plugin(PluginName),
}

impl Held {
    fn by(commit: &Commit) -> impl Iterator<Item = Held> {
        let plugin = commit.kv.as_ref().map(|(plugin, _)| Held::Plugin(plugin.clone()));
        std::iter::once(Held::Channel(commit.channel)).chain(plugin)
    }
}

impl Lane {
    /// Whether a commit has to wait for a batch under way.
    fn holds(&self, commit: &Commit) -> bool {
        Held::by(commit).any(|held| self.busy.contains(&held))
    }
}

struct Waiting {
    commit: Commit,
    then: Option<Then>,
    answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// What is done with what a commit made durable, before its caller has the answer and also when the caller is gone. The
/// commits of a channel come to it in the order of their `seq`. It must not wait.
pub type Then = Box<dyn FnOnce(&Committed) + Send>;

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

impl Committer {
    /// A committer on this store.
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Self::with_limits(store, WAITING, PATIENCE)
    }

    /// A committer with bounds of its own: how many commits of a tenant may wait, and how long one may take.
    pub fn with_limits(store: Arc<dyn Store>, waiting: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { store, lanes: Mutex::default(), waiting, patience })
    }

    /// Commits with whatever else of the tenant is to be committed now. A commit whose caller goes away before its batch
    /// begins is not done; one that is in a batch is done with the others.
    ///
    /// # Errors
    /// `unavailable` when the store is away or did not answer in time, which leaves open whether the commit was done;
    /// `overloaded` when too many wait; `internal` when the store failed.
    pub async fn commit(self: &Arc<Self>, tenant: &TenantSlug, commit: Commit) -> Result<Outcome, Refusal> {
        self.commit_then(tenant, commit, None).await
    }

    /// As [`Committer::commit`], with something that follows when it is done.
    pub async fn commit_then(
        self: &Arc<Self>,
        tenant: &TenantSlug,
        commit: Commit,
        then: Option<Then>,
    ) -> Result<Outcome, Refusal> {
        let (answer, answered) = oneshot::channel();
        if let Some(turn) = self.enter(tenant, Waiting { commit, then, answer })? {
            // A task of its own: what goes with the commit must not depend on whether its caller stays.
            tokio::spawn(turn.run());
        }
        match timeout(self.patience, answered).await {
            Ok(Ok(answer)) => answer,
            // The task went down with the answer, which is in the log as a panic.
            Ok(Err(_)) => Err(Refusal::new(ErrorCode::Internal, "the broker failed while storing; try again")),
            Err(_) => {
                metrics::counter!("switchboard_commits_given_up_total").increment(1);
                Err(Refusal::unavailable())
            }
        }
    }

    /// Queues a commit, and gives a turn if nobody will come for it soon.
    fn enter(self: &Arc<Self>, tenant: &TenantSlug, next: Waiting) -> Result<Option<Turn>, Refusal> {
        let mut lanes = self.lanes();
        let lane = lanes.entry(tenant.clone()).or_default();
        if lane.waiting.len() >= self.waiting {
            let refusal = Refusal::new(ErrorCode::Overloaded, "too many events are waiting to be stored; try again");
            return Err(Refusal { retry_after_ms: Some(250), ..refusal });
        }
        lane.waiting.push_back(next);
        Ok(self.turn(tenant, lane))
    }

    /// A free turn, if there is none and a batch for it.
    fn turn(self: &Arc<Self>, tenant: &TenantSlug, lane: &mut Lane) -> Option<Turn> {
        let has_work = || lane.waiting.iter().any(|next| !lane.holds(&next.commit));
        if lane.has_free_turn || lane.turns >= self.store.batches_at_once() || !has_work() {
            return None;
        }
        lane.turns += 1;
        lane.has_free_turn = true;
        Some(Turn {
            committer: Arc::clone(self),
            tenant: tenant.clone(),
            is_free: true,
            held: Vec::new(),
            ended: false,
        })
    }

    /// The free turn of a lane is held up: gives another one, if there is something for it to do.
    fn pass(self: &Arc<Self>, tenant: &TenantSlug) -> Option<Turn> {
        let mut lanes = self.lanes();
        let lane = lanes.get_mut(tenant)?;
        lane.has_free_turn = false;
        self.turn(tenant, lane)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to commit a tenant's batches, one after the other. It ends when nothing waits for it, or with its task.
struct Turn {
    committer: Arc<Committer>,
    tenant: TenantSlug,
    /// Whether it is the lane's free one, and not held up.
    is_free: bool,
    /// What the batch under way holds.
    held: Vec<Held>,
    ended: bool,
}

impl Turn {
    /// Commits batch after batch until nothing waits.
    fn run(mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Some(batch) = self.take() {
                let mut settling = pin!(settle(&self.committer.store, &self.tenant, batch));
                if timeout(HELD_UP, &mut settling).await.is_err() {
                    self.is_free = false;
                    if let Some(next) = self.committer.pass(&self.tenant) {
                        tokio::spawn(next.run());
                    }
                    settling.await;
                }
            }
        })
    }

    /// What goes next: the oldest, up to the bounds, nothing that another batch holds, and no key of a sender twice. The second
    /// of two with the same key is left for a batch after this one, where it finds the first. `None`: nothing waits that
    /// another turn will not come for.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let committer = Arc::clone(&self.committer);
        let mut lanes = committer.lanes();
        let lane = lanes.get_mut(&self.tenant)?;
        for held in self.held.drain(..) {
            lane.busy.remove(&held);
        }
        if !self.is_free && lane.has_free_turn {
            self.end(&mut lanes);
            return None;
        }
        (self.is_free, lane.has_free_turn) = (true, true);
        let (mut batch, mut keys, mut bytes, mut later) = (Vec::new(), HashSet::new(), 0, Vec::new());
        while batch.len() < BATCH_COMMITS
            && bytes < BATCH_BYTES
            && let Some(next) = lane.waiting.pop_front()
        {
            if next.answer.is_closed() {
                continue;
            }
            let key = next.commit.request.as_ref().map(|(key, _)| (next.commit.sender.id.clone(), key.clone()));
            if lane.holds(&next.commit) || key.is_some_and(|key| !keys.insert(key)) {
                later.push(next);
                continue;
            }
            bytes += weight(&next.commit);
            batch.push(next);
        }
        for next in later.into_iter().rev() {
            lane.waiting.push_front(next);
        }
        if batch.is_empty() {
            self.end(&mut lanes);
            return None;
        }
        self.held = batch.iter().flat_map(|next| Held::by(&next.commit)).collect();
        lane.busy.extend(self.held.iter().cloned());
        Some(batch)
    }

    /// Gives the turn back. Under the same lock as the look at what waits, so that nobody counts on it in between.
    fn end(&mut self, lanes: &mut Lanes) {
        self.ended = true;
        let Some(lane) = lanes.get_mut(&self.tenant) else { return };
        for held in self.held.drain(..) {
            lane.busy.remove(&held);
        }
        lane.turns -= 1;
        lane.has_free_turn &= !self.is_free;
        if lane.turns == 0 {
            lanes.remove(&self.tenant);
        }
    }
}

impl Drop for Turn {
    /// After a panic: what still waits is another turn's, or has its answer from this.
    fn drop(&mut self) {
        if !self.ended {
            let committer = Arc::clone(&self.committer);
            self.end(&mut committer.lanes());
        }
    }
}

/// Commits a batch and tells each caller what became of its part.
async fn settle(store: &Arc<dyn Store>, tenant: &TenantSlug, batch: Vec<Waiting>) {
    let (commits, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|next| (next.commit, Answer { then: next.then, answer: next.answer })).unzip();
    match commit(store, tenant, &commits).await {
        Ok(outcomes) => {
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                answer.give(Ok(outcome));
            }
        }
        // The store refused the batch for what is in it, or for a lock on part of it. Whose it is shows when each goes alone:
        // those of a channel in their order, and no channel waits for another.
        Err(StoreError::Failed(_) | StoreError::Contended) if commits.len() > 1 => {
            let mut channels: HashMap<ChannelId, Vec<_>> = HashMap::new();
            for (answer, commit) in answers.into_iter().zip(commits) {
                channels.entry(commit.channel).or_default().push((answer, commit));
            }
            futures_util::stream::iter(channels.into_values())
                .for_each_concurrent(ALONE, |channel| async move {
                    // Not those whose callers have given up while others of the channel were waited for.
                    for (answer, one) in channel.into_iter().filter(|(answer, _)| !answer.answer.is_closed()) {
                        let alone = commit(store, tenant, &[one]).await.map(|mut outcomes| outcomes.remove(0));
                        answer.give(alone.map_err(|error| refusal(&error)));
                    }
                })
                .await;
        }
        Err(error) => {
            let refusal = refusal(&error);
            for answer in answers {
                answer.give(Err(refusal.clone()));
            }
        }
    }
}

/// Who is told what became of a commit.
struct Answer {
    then: Option<Then>,
    answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

impl Answer {
    fn give(self, outcome: Result<Outcome, Refusal>) {
        if let (Some(then), Ok(Outcome::Done(committed))) = (self.then, &outcome) {
            then(committed);
        }
        // A caller that is gone has no use for its answer.
        let _ = self.answer.send(outcome);
    }
}

async fn commit(store: &Arc<dyn Store>, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
    let began = Instant::now();
    let answer = store.commit(tenant, batch).await;
    let result = match &answer {
        Ok(_) => "ok",
        Err(error) if error.is_unavailable() => "unavailable",
        Err(_) => "failed",
    };
    metrics::histogram!("switchboard_commit_seconds", "result" => result).record(began.elapsed().as_secs_f64());
    metrics::histogram!("switchboard_commit_batch").record(batch.len() as f64);
    answer
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
    use crate::store::NewChannel;
    use crate::store::sqlite::Sqlite;

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
        // So is one that no store knows.
        let missing = committer.commit(&"nobody".parse().unwrap(), commit).await;
        assert_eq!(missing.unwrap_err().code, ErrorCode::Internal);
        // A turn ends just after its answers.
        let forgotten = async {
            while !committer.lanes().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), forgotten).await.expect("nothing is in hand");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
