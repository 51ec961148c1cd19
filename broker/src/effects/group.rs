//! Gathers the commits of many events into batches, so that they share a transaction and its write to the disk.
//!
//! The gathering is natural: a commit that finds nothing of its tenant under way goes at once, and while a batch is under
//! way the later ones wait for the next. So nobody waits for company, and the busier the store is the larger the batches
//! become. Nothing here knows what a commit means, or what follows from its outcome.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::refusal;
use crate::model::TenantSlug;
use crate::protocol::{ErrorCode, Refusal};
use crate::store::{Commit, Outcome, Store, StoreError};

/// How many commits a batch has at most. Beyond this a batch costs as much more as it holds more.
const BATCH_COMMITS: usize = 128;

/// How many bytes of content a batch has at most, unless a single commit has more.
const BATCH_BYTES: usize = 1 << 20;

/// How many commits of a tenant may wait for a batch: about a fifth of a second's work.
const WAITING: usize = 4_096;

/// How long a commit may take, the wait for its batch counted in. It is longer than a call of the store, and leaves what
/// comes before and after it a part of the five seconds that a client is promised.
const PATIENCE: Duration = Duration::from_millis(4_500);

/// The one way of an event into the store.
pub struct Committer {
    store: Arc<dyn Store>,
    /// What waits for a batch, of those tenants that have a turn under way, and no others.
    lanes: Mutex<Lanes>,
    waiting: usize,
    patience: Duration,
}

type Lanes = HashMap<TenantSlug, VecDeque<Waiting>>;

struct Waiting {
    commit: Commit,
    answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

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
        let (answer, answered) = oneshot::channel();
        if let Some(turn) = self.enter(tenant, Waiting { commit, answer })? {
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

    /// Queues a commit, and gives the tenant's turn if nobody has it.
    fn enter(self: &Arc<Self>, tenant: &TenantSlug, next: Waiting) -> Result<Option<Turn>, Refusal> {
        let mut lanes = self.lanes();
        if let Some(waiting) = lanes.get_mut(tenant) {
            if waiting.len() >= self.waiting {
                let refusal =
                    Refusal::new(ErrorCode::Overloaded, "too many events are waiting to be stored; try again");
                return Err(Refusal { retry_after_ms: Some(250), ..refusal });
            }
            waiting.push_back(next);
            return Ok(None);
        }
        lanes.insert(tenant.clone(), VecDeque::from([next]));
        Ok(Some(Turn { committer: Arc::clone(self), tenant: tenant.clone(), ended: false }))
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to commit a tenant's batches. It ends when nothing waits, or with its task.
struct Turn {
    committer: Arc<Committer>,
    tenant: TenantSlug,
    ended: bool,
}

impl Turn {
    /// Commits batch after batch until nothing waits.
    async fn run(mut self) {
        while let Some(batch) = self.take() {
            self.settle(batch).await;
        }
    }

    /// What goes next: the oldest, up to the bounds, and no key of a sender twice. The second of two with the same key
    /// is left for a batch after this one, where it finds the first. When nothing waits the turn ends under the same
    /// lock, so that whoever comes next finds it free.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut lanes = self.committer.lanes();
        let waiting = lanes.get_mut(&self.tenant)?;
        let (mut batch, mut keys, mut bytes, mut later) = (Vec::new(), HashSet::new(), 0, Vec::new());
        while batch.len() < BATCH_COMMITS
            && bytes < BATCH_BYTES
            && let Some(next) = waiting.pop_front()
        {
            if next.answer.is_closed() {
                continue;
            }
            let key = next.commit.request.as_ref().map(|(key, _)| (next.commit.sender.id.clone(), key.clone()));
            if key.is_some_and(|key| !keys.insert(key)) {
                later.push(next);
                continue;
            }
            bytes += weight(&next.commit);
            batch.push(next);
        }
        for next in later.into_iter().rev() {
            waiting.push_front(next);
        }
        if batch.is_empty() {
            lanes.remove(&self.tenant);
            self.ended = true;
            return None;
        }
        Some(batch)
    }

    async fn settle(&self, batch: Vec<Waiting>) {
        let (commits, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|next| (next.commit, next.answer)).unzip();
        match self.commit(&commits).await {
            // A caller that is gone has no use for its answer.
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            // The store refused the batch for what is in it. Whose it is shows when each goes alone.
            Err(StoreError::Failed(_)) if commits.len() > 1 => {
                for (answer, commit) in answers.into_iter().zip(commits) {
                    let alone = self.commit(&[commit]).await.map(|mut outcomes| outcomes.remove(0));
                    let _ = answer.send(alone.map_err(|error| refusal(&error)));
                }
            }
            Err(error) => {
                let refusal = refusal(&error);
                for answer in answers {
                    let _ = answer.send(Err(refusal.clone()));
                }
            }
        }
    }

    async fn commit(&self, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
        let began = Instant::now();
        let answer = self.committer.store.commit(&self.tenant, batch).await;
        let result = match &answer {
            Ok(_) => "ok",
            Err(StoreError::Unavailable(_)) => "unavailable",
            Err(_) => "failed",
        };
        metrics::histogram!("switchboard_commit_seconds", "result" => result).record(began.elapsed().as_secs_f64());
        metrics::histogram!("switchboard_commit_batch").record(batch.len() as f64);
        answer
    }
}

impl Drop for Turn {
    /// After a panic nobody would come for those who wait; without a sender they have their answer.
    fn drop(&mut self) {
        if !self.ended {
            self.committer.lanes().remove(&self.tenant);
        }
    }
}

fn weight(commit: &Commit) -> usize {
    commit.drafts.iter().map(|(_, draft)| draft.content.get().len() + draft.attachments.get().len()).sum()
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
        let commit = Commit { channel: channel.id, sender, request: None, drafts, reads: Vec::new(), at: clock.now() };
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
        timeout(PATIENCE, forgotten).await.expect("nothing is in hand");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
