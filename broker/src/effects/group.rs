//! Gathers the commits of many events into batches, so that they share a transaction and its write to the disk.
//!
//! The gathering is natural: a commit that finds its tenant's turns free goes at once, and while batches are under way
//! the later ones wait for the next. So nobody waits for company, and the busier the store is the larger the batches
//! become. Nothing here knows what a commit means, or what follows from its outcome.

use std::collections::hash_map::Entry;
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
    /// Those tenants that have a commit waiting or under way, and no others.
    lanes: Mutex<HashMap<TenantSlug, Lane>>,
    waiting: usize,
    patience: Duration,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

/// What a tenant has in hand.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

struct Waiting {
    commit: Commit,
    answer: oneshot::Sender<Result<Outcome, Refusal>>,
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

    /// Queues a commit, and gives a turn if the tenant has one free.
    fn enter(self: &Arc<Self>, tenant: &TenantSlug, waiting: Waiting) -> Result<Option<Turn>, Refusal> {
        let mut lanes = self.lanes();
        let lane = lanes.entry(tenant.clone()).or_default();
        if lane.waiting.len() >= self.waiting {
            let refusal = Refusal::new(ErrorCode::Overloaded, "too many events are waiting to be stored; try again");
            return Err(Refusal { retry_after_ms: Some(250), ..refusal });
        }
        lane.waiting.push_back(waiting);
        if lane.under_way >= self.store.batches_at_once() {
            return Ok(None);
        }
        lane.under_way += 1;
        Ok(Some(Turn { committer: Arc::clone(self), tenant: tenant.clone(), ended: false }))
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<TenantSlug, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have one batch of a tenant under way. It ends when nothing waits, or with its task.
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
        let lane = lanes.get_mut(&self.tenant)?;
        let (mut batch, mut keys, mut bytes, mut later) = (Vec::new(), HashSet::new(), 0, Vec::new());
        while batch.len() < BATCH_COMMITS
            && bytes < BATCH_BYTES
            && let Some(next) = lane.waiting.pop_front()
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
            lane.waiting.push_front(next);
        }
        if batch.is_empty() {
            self.ended = true;
            end(&mut lanes, &self.tenant);
            return None;
        }
        Some(batch)
    }

    async fn settle(&self, batch: Vec<Waiting>) {
        let (commits, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|next| (next.commit, next.answer)).unzip();
        match self.commit(&commits).await {
            // A caller that is gone has no use for its answer.
            Ok(outcomes) => {
                answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| drop(answer.send(Ok(outcome))))
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
                answers.into_iter().for_each(|answer| drop(answer.send(Err(refusal.clone()))));
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
    fn drop(&mut self) {
        if !self.ended {
            end(&mut self.committer.lanes(), &self.tenant);
        }
    }
}

/// Gives a turn back, and forgets a tenant that has nothing in hand.
fn end(lanes: &mut HashMap<TenantSlug, Lane>, tenant: &TenantSlug) {
    if let Entry::Occupied(mut lane) = lanes.entry(tenant.clone()) {
        lane.get_mut().under_way -= 1;
        if lane.get().under_way == 0 && lane.get().waiting.is_empty() {
            lane.remove();
        }
    }
}

fn weight(commit: &Commit) -> usize {
    commit.drafts.iter().map(|(_, draft)| draft.content.get().len() + draft.attachments.get().len()).sum()
}
