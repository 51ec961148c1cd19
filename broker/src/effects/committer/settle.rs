//! Settles a batch: stores it, as a whole or commit by commit, publishes the result, and answers.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::batch::{Publish, Published, Waiting};
use super::pending::{Answer, Flush, Promise};
use crate::model::{ChannelId, ChannelKey, TenantSlug};
use crate::protocol::Refusal;
use crate::store::{Commit, Outcome, Receipt, Store, StoreError};

/// Channels of a refused batch that are retried side by side.
const ALONE: usize = 4;

/// Stores a batch, publishes what was stored, and answers every caller.
pub(super) async fn settle<T: Send + 'static>(
    store: &Arc<dyn Store>,
    publish: &dyn Publish<T>,
    tenant: &TenantSlug,
    mut batch: Vec<Waiting<T>>,
) {
    // Exactly the items with a commit have an answer due, which pairs outcomes with items below.
    let commits: Vec<Commit> = batch.iter_mut().filter_map(|next| next.commit.take()).collect();
    match commit(store, tenant, &commits).await {
        Ok(outcomes) => {
            let mut outcomes = outcomes.into_iter();
            let mut settled = Vec::with_capacity(batch.len());
            for next in batch {
                let outcome = if next.answer.is_some() { outcomes.next() } else { None };
                settled.push((next, outcome));
            }
            publish_batch(publish, tenant, settled);
        }
        // The store refused the batch for its content, or for a lock on part of it. Committing one at a time shows
        // which: in order within a channel, and without one channel waiting for another.
        Err(StoreError::Failed(_) | StoreError::Contended) if commits.len() > 1 => {
            let mut commits = commits.into_iter();
            let mut channels: HashMap<ChannelId, Vec<_>> = HashMap::new();
            for next in batch {
                let commit = if next.answer.is_some() { commits.next() } else { None };
                channels.entry(next.channel).or_default().push((next, commit));
            }
            futures_util::stream::iter(channels.into_values())
                .for_each_concurrent(ALONE, |channel| async move {
                    for (next, one) in channel {
                        // Earlier commits of the channel may have used up this one's time.
                        if next.by <= Instant::now() {
                            next.give_up();
                            continue;
                        }
                        let outcome = match one {
                            None => None,
                            Some(one) => match commit(store, tenant, &[one]).await {
                                Ok(mut outcomes) => Some(outcomes.remove(0)),
                                Err(error) => {
                                    give([(next.answer, Err(error.into()))]);
                                    continue;
                                }
                            },
                        };
                        publish_batch(publish, tenant, vec![(next, outcome)]);
                    }
                })
                .await;
        }
        Err(error) => {
            let refusal = Refusal::from(error);
            // Items that store nothing are published regardless.
            let (refused, published): (Vec<_>, Vec<_>) = batch.into_iter().partition(|next| next.answer.is_some());
            give(refused.into_iter().map(|next| (next.answer, Err(refusal.clone()))));
            publish_batch(publish, tenant, published.into_iter().map(|next| (next, None)).collect());
        }
    }
}

/// Publishes what a batch did, channel by channel, each followed by its answers.
fn publish_batch<T: 'static>(
    publish: &dyn Publish<T>,
    tenant: &TenantSlug,
    settled: Vec<(Waiting<T>, Option<Outcome>)>,
) {
    let mut channels: Vec<Settled<T>> = Vec::new();
    let mut places = HashMap::new();
    for (Waiting { channel, what, answer, .. }, outcome) in settled {
        let place = *places.entry(channel).or_insert(channels.len());
        if place == channels.len() {
            channels.push(Settled { channel, published: Vec::new(), answers: Vec::new() });
        }
        let Settled { published, answers, .. } = &mut channels[place];
        let outcome = match outcome {
            Some(Outcome::Done(committed)) => {
                let receipt = committed.receipt.clone();
                published.push(Published { what, committed: Some(committed) });
                Outcome::Done(receipt)
            }
            None => {
                published.push(Published { what, committed: None });
                continue;
            }
            Some(Outcome::Duplicate(first)) => Outcome::Duplicate(first),
            Some(Outcome::IdConflict) => Outcome::IdConflict,
            Some(Outcome::UnknownMessage) => Outcome::UnknownMessage,
            Some(Outcome::KvConflict) => Outcome::KvConflict,
            Some(Outcome::KvFull) => Outcome::KvFull,
            Some(Outcome::UnknownChannel) => Outcome::UnknownChannel,
        };
        answers.push((answer, outcome));
    }
    for Settled { channel, published, answers } in channels {
        let channel = ChannelKey { tenant: tenant.clone(), channel };
        let answering = move || give(answers.into_iter().map(|(to, outcome)| (to, Ok(outcome))));
        publish.publish(&channel, published, Box::new(answering));
    }
}

struct Settled<T> {
    channel: ChannelId,
    published: Vec<Published<T>>,
    answers: Vec<(Option<Promise>, Outcome<Receipt>)>,
}

/// Gives the answers, and then flushes each buffer that holds some of them, once.
fn give(answers: impl IntoIterator<Item = (Option<Promise>, Answer)>) {
    let mut gathered: Vec<Arc<dyn Flush>> = Vec::new();
    for (promise, answer) in answers {
        if let Some(place) = promise.and_then(|promise| promise.give(answer))
            && !gathered.iter().any(|other| Arc::ptr_eq(other, &place))
        {
            gathered.push(place);
        }
    }
    gathered.iter().for_each(|place| place.flush());
}

async fn commit(store: &Arc<dyn Store>, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let began = Instant::now();
    let answer = store.commit(tenant, batch).await;
    let result = match &answer {
        Ok(_) => "ok",
        Err(error) if error.is_unavailable() => "unavailable",
        Err(_) => "failed",
    };
    crate::metrics::COMMIT_SECONDS.with([result]).record(began.elapsed().as_secs_f64());
    crate::metrics::COMMIT_BATCH.handle().record(batch.len() as f64);
    answer
}
