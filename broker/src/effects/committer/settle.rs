//! What becomes of a batch: it is stored, as a whole or each part by itself, what is stored is published, and callers have
//! their answers.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::super::refusals::refusal;
use super::batch::{Publish, Published, Waiting};
use super::pending::{Answer, Flush, Promise};
use crate::model::{ChannelId, ChannelKey, TenantSlug};
use crate::store::{Commit, Outcome, Receipt, Store, StoreError};

/// How many channels of a batch that the store refused are tried side by side.
const ALONE: usize = 4;

/// Stores a batch, publishes what was stored, and tells each caller what became of its part.
pub(super) async fn settle<T: Send + 'static>(
    store: &Arc<dyn Store>,
    publish: &dyn Publish<T>,
    tenant: &TenantSlug,
    mut batch: Vec<Waiting<T>>,
) {
    // Whoever has something to be stored has an answer to come, and nobody else.
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
        // The store refused the batch for what is in it, or for a lock on part of it. Whose it is shows when each goes alone:
        // those of a channel in their order, and no channel waits for another.
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
                        // Others of the channel may have been waited for until it was too late for this one.
                        if next.by <= Instant::now() {
                            next.give_up();
                            continue;
                        }
                        let outcome = match one {
                            None => None,
                            Some(one) => match commit(store, tenant, &[one]).await {
                                Ok(mut outcomes) => Some(outcomes.remove(0)),
                                Err(error) => {
                                    give([(next.answer, Err(refusal(&error)))]);
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
            let refusal = refusal(&error);
            // What was only to keep its place is published all the same.
            let (refused, published): (Vec<_>, Vec<_>) = batch.into_iter().partition(|next| next.answer.is_some());
            give(refused.into_iter().map(|next| (next.answer, Err(refusal.clone()))));
            publish_batch(publish, tenant, published.into_iter().map(|next| (next, None)).collect());
        }
    }
}

/// Publishes what a batch has done, channel by channel, and then gives the answers.
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

/// What a batch has done in a channel.
struct Settled<T> {
    channel: ChannelId,
    published: Vec<Published<T>>,
    answers: Vec<(Option<Promise>, Outcome<Receipt>)>,
}

/// Gives answers, and then has each place where some of them were gathered send these.
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
    metrics::histogram!("switchboard_commit_seconds", "result" => result).record(began.elapsed().as_secs_f64());
    metrics::histogram!("switchboard_commit_batch").record(batch.len() as f64);
    answer
}
