//! What the gathering of commits promises, on both stores: company changes nothing but the number of transactions.
//!
//! These tests run on one thread: commits that are asked for without a pause in between are gathered before any begins.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use switchboard::effects::committer::{Committer, Publish, Published, Then};
use switchboard::model::{ChannelId, ChannelKey, Clock, KvWrite};
use switchboard::protocol::{ErrorCode, Refusal};
use switchboard::store::{Commit, Outcome, Receipt};
use switchboard_tests::DEADLINE;
use tokio::time::{Instant, timeout};

use super::backing::{Backing, connect, on_postgres, on_sqlite};
use super::scene::{START, Scene, keyed, plugin, put, texts};

const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock'";

macro_rules! on_both {
    ($($case:ident),+) => {
        mod postgres {
            $(
                #[tokio::test]
                async fn $case() {
                    super::on_postgres(super::$case).await;
                }
            )+
        }

        mod sqlite {
            $(
                #[tokio::test]
                async fn $case() {
                    super::on_sqlite(super::$case).await;
                }
            )+
        }
    };
}

on_both!(
    a_commit_that_fails_takes_no_other_with_it,
    a_key_asked_for_three_times_at_once_is_stored_once,
    keys_are_judged_in_order_also_when_one_commit_fails,
    what_is_too_much_is_refused_and_the_rest_is_done
);

/// Asks for all of them at once.
async fn commit_all(scene: &Scene, committer: &std::sync::Arc<Committer>, commits: Vec<Commit>) -> Vec<Answer> {
    join_all(commits.into_iter().map(|commit| committer.commit(&scene.tenant, commit))).await
}

type Answer = Result<Outcome<Receipt>, Refusal>;

fn done(outcome: Outcome<Receipt>) -> Receipt {
    match outcome {
        Outcome::Done(receipt) => receipt,
        other => panic!("{other:?}"),
    }
}

fn duplicate(outcome: Outcome<Receipt>) -> Receipt {
    match outcome {
        Outcome::Duplicate(first) => first,
        other => panic!("{other:?}"),
    }
}

/// A message id that is taken makes the database refuse the whole batch, which is as bad as a commit can be.
async fn a_commit_that_fails_takes_no_other_with_it(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let taken = scene.say(channel, &alice, "0").await.id;
    let mut commits: Vec<_> = (1..=9).map(|place| scene.saying(channel, &alice, &place.to_string())).collect();
    commits[4].drafts[0].0 = taken;
    let alone = scene.store.commit(&scene.tenant, &commits).await;
    assert!(matches!(alone, Err(switchboard::store::StoreError::Failed(_))), "{alone:?}");

    let answers = commit_all(&scene, &Committer::new(scene.store.clone()), commits).await;
    for (place, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(outcome) => assert!(done(outcome).message.is_some()),
            Err(refusal) => assert_eq!((place, refusal.code), (4, ErrorCode::Internal)),
        }
    }
    let kept = scene.history(channel).await;
    assert_eq!(texts(&kept), ["0", "1", "2", "3", "4", "6", "7", "8", "9"]);
    assert_eq!(scene.seq(channel).await, 9, "and no number was lost");
}

async fn a_key_asked_for_three_times_at_once_is_stored_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let commits = ["k", "other", "k", "k"].map(|key| keyed(scene.saying(channel, &alice, key), key, 1));
    let answers = commit_all(&scene, &Committer::new(scene.store.clone()), commits.to_vec()).await;
    let mut answers = answers.into_iter().map(Result::unwrap);
    let first = done(answers.next().unwrap());
    assert_eq!(done(answers.next().unwrap()).seq, 2);
    assert_eq!(answers.map(duplicate).collect::<Vec<_>>(), [first.clone(), first]);
    assert_eq!(texts(&scene.history(channel).await), ["k", "other"]);
}

async fn what_is_too_much_is_refused_and_the_rest_is_done(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let committer = Committer::with_limits(scene.store.clone(), 4, DEADLINE);
    let commits = (0..6).map(|place| scene.saying(channel, &alice, &place.to_string())).collect();
    let answers = commit_all(&scene, &committer, commits).await;
    for refused in &answers[4..] {
        let refusal = refused.as_ref().unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Overloaded);
        assert!(refusal.retry_after_ms.is_some());
    }
    answers.into_iter().take(4).for_each(|answer| drop(done(answer.unwrap())));
    assert_eq!(texts(&scene.history(channel).await), ["0", "1", "2", "3"]);
    assert!(matches!(committer.commit(&scene.tenant, scene.saying(channel, &alice, "4")).await, Ok(Outcome::Done(_))));
}

/// What the store refuses as a whole is tried commit by commit; what each expects is then still judged, and in order.
async fn keys_are_judged_in_order_also_when_one_commit_fails(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let taken = scene.say(channel, &alice, "0").await.id;
    let mut commits: Vec<_> = (1..=6)
        .map(|place| {
            let first = KvWrite { expected: Some(0), ..put(&format!("key {}", place % 2), &place.to_string()) };
            Commit { kv: Some((plugin("poll"), vec![first])), ..scene.saying(channel, &alice, &place.to_string()) }
        })
        .collect();
    // The first who writes one of the keys, so the second is the first who does.
    commits[0].drafts[0].0 = taken;
    let answers = commit_all(&scene, &Committer::new(scene.store.clone()), commits).await;
    let told: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(Outcome::Done(_)) => "done",
            Ok(Outcome::KvConflict) => "conflict",
            Err(refusal) if refusal.code == ErrorCode::Internal => "failed",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["failed", "done", "done", "conflict", "conflict", "conflict"]);
    assert_eq!(texts(&scene.history(channel).await), ["0", "2", "3"]);
    for (key, value) in [("key 0", "2"), ("key 1", "3")] {
        let kept = scene.store.kv_get(&scene.tenant, &plugin("poll"), key, START).await.unwrap().unwrap();
        assert_eq!(kept.value, value.as_bytes());
    }
}

/// The transaction that wrote a row stands in the row.
#[tokio::test]
async fn what_comes_together_shares_a_transaction_of_postgres() {
    on_postgres(async |backing: Backing| {
        let scene = Scene::new(&backing).await;
        let alice = scene.member("alice").await;
        let channels = [scene.channel(&[&alice]).await, scene.channel(&[&alice]).await];
        let commits: Vec<_> =
            (0..100).map(|place| scene.saying(channels[place % 2], &alice, &place.to_string())).collect();
        for answer in commit_all(&scene, &Committer::new(scene.store.clone()), commits).await {
            done(answer.unwrap());
        }
        let Backing::Postgres(url) = &backing else { panic!("not a Postgres") };
        let count = "SELECT count(*), count(DISTINCT xmin::text) FROM tenant_acme.chat_message";
        let row = connect(url).await.query_one(count, &[]).await.unwrap();
        let (messages, transactions): (i64, i64) = (row.get(0), row.get(1));
        println!("{messages} messages in {transactions} transaction(s)");
        assert_eq!((messages, transactions), (100, 1));
    })
    .await;
}

/// The channel's row is locked, so the first commit is in the store's hands and the later ones wait for a batch.
#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing_on_postgres() {
    on_postgres(async |backing: Backing| {
        let (scene, committer, say) = stalled(&backing, DEADLINE).await;
        let mut under_way = Box::pin(committer.commit(&scene.scene.tenant, say("under way")));
        assert!(poll!(under_way.as_mut()).is_pending());
        scene.blocked().await;
        let mut goes = Box::pin(committer.commit(&scene.scene.tenant, say("goes")));
        let mut stays = pin!(committer.commit(&scene.scene.tenant, say("stays")));
        assert!(poll!(goes.as_mut()).is_pending() && poll!(stays.as_mut()).is_pending());
        drop(under_way);
        drop(goes);
        scene.release().await;
        assert_eq!(done(stays.await.unwrap()).seq, 3);
        assert_eq!(texts(&scene.scene.history(scene.channel).await), ["under way", "goes", "stays"]);
    })
    .await;
}

#[tokio::test]
async fn an_answer_comes_also_behind_a_batch_that_stalls_in_postgres() {
    on_postgres(async |backing: Backing| {
        let patience = Duration::from_millis(300);
        let (scene, committer, say) = stalled(&backing, patience).await;
        let began = Instant::now();
        let asked = (0..20).map(|place| committer.commit(&scene.scene.tenant, say(&place.to_string())));
        let answers = timeout(DEADLINE, join_all(asked)).await.expect("an answer comes");
        println!("20 answers after {:?}", began.elapsed());
        for answer in answers {
            assert_eq!(answer.unwrap_err().code, ErrorCode::Unavailable);
        }
        scene.release().await;
        // Whether it was done is open, and the tenant goes on.
        let next = async { while committer.commit(&scene.scene.tenant, say("next")).await.is_err() {} };
        timeout(DEADLINE, next).await.expect("the store is back");
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_stays_locked_in_postgres_fails_alone() {
    on_postgres(async |backing: Backing| {
        let (scene, committer, say) = stalled(&backing, DEADLINE).await;
        let alice = scene.scene.member("free").await;
        let free = scene.scene.channel(&[&alice]).await;
        let others = (1..=3).map(|place| scene.scene.saying(free, &alice, &place.to_string()));
        // Asked for at once, they are one batch.
        let commits: Vec<_> = std::iter::once(say("stuck")).chain(others).collect();
        let mut answers = commit_all(&scene.scene, &committer, commits).await.into_iter();
        assert_eq!(answers.next().unwrap().unwrap_err().code, ErrorCode::Unavailable);
        for answer in answers {
            done(answer.unwrap());
        }
        assert_eq!((scene.scene.seq(free).await, scene.scene.history(free).await.len()), (3, 3));
        scene.release().await;
        assert_eq!(done(committer.commit(&scene.scene.tenant, say("again")).await.unwrap()).seq, 1);
    })
    .await;
}

/// The number that something was queued with, and the `seq` of what was stored with it.
type Part = (usize, Option<u64>);

/// What was told, in order.
#[derive(Debug, Default)]
struct Heard(Mutex<HashMap<ChannelId, Vec<Part>>>);

impl Publish<usize> for Heard {
    fn publish(&self, channel: &ChannelKey, told: Vec<Published<usize>>, then: Then) {
        let mut heard = self.0.lock().unwrap();
        let parts = told.into_iter().map(|told| (told.what, told.committed.map(|committed| committed.messages[0].seq)));
        heard.entry(channel.channel).or_default().extend(parts);
        drop(heard);
        then();
    }
}

impl Heard {
    fn count(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }

    async fn has_heard(&self, count: usize) {
        let heard = async {
            while self.count() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, heard).await.expect("all of it is told");
    }
}

/// Callers queue, wait, and go away at random; what is only told stands among what is stored.
async fn is_told_in_order_whatever_callers_do(backing: Backing) {
    const STEPS: usize = 400;
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let seed = u64::from_le_bytes(Clock::system().random());
    println!("seed {seed}");
    let mut state = seed | 1;
    let mut dice = |sides: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % sides
    };
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(scene.channel(&[&alice]).await);
    }
    let heard = Arc::new(Heard::default());
    let committer = Committer::publishing(scene.store.clone(), heard.clone());
    let (mut pending, mut queued) = (Vec::new(), HashMap::<ChannelId, Vec<usize>>::new());
    for step in 0..STEPS {
        let channel = channels[usize::try_from(dice(4)).unwrap()];
        queued.entry(channel).or_default().push(step);
        match dice(10) {
            0 | 1 => {
                let key = ChannelKey { tenant: scene.tenant.clone(), channel };
                committer.publish_in_order(&key, step).unwrap();
            }
            _ => {
                let commit = scene.saying(channel, &alice, &step.to_string());
                pending.push(committer.queue(&scene.tenant, commit, step).unwrap());
            }
        }
        match dice(6) {
            0 if !pending.is_empty() => {
                let one = pending.remove(usize::try_from(dice(pending.len() as u64)).unwrap());
                done(one.outcome().await.unwrap());
            }
            1 | 2 => drop(pending.pop()),
            3 => tokio::task::yield_now().await,
            _ => {}
        }
    }
    heard.has_heard(STEPS).await;
    for one in pending {
        done(one.outcome().await.unwrap());
    }
    let heard = heard.0.lock().unwrap();
    for (channel, steps) in queued {
        let told = &heard[&channel];
        assert!(told.iter().map(|(step, _)| *step).eq(steps.iter().copied()), "seed {seed}: {told:?} of {steps:?}");
        let seqs: Vec<u64> = told.iter().filter_map(|(_, seq)| *seq).collect();
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "seed {seed}: {seqs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whatever_callers_do_each_channel_is_told_in_order() {
    on_sqlite(is_told_in_order_whatever_callers_do).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn whatever_callers_do_each_channel_is_told_in_order_on_postgres() {
    on_postgres(is_told_in_order_whatever_callers_do).await;
}

/// Its caller was told that it is not known whether it was done.
#[tokio::test]
async fn what_outlasts_its_callers_patience_is_told_all_the_same_on_postgres() {
    on_postgres(async |backing: Backing| {
        let (scene, _, say) = stalled(&backing, DEADLINE).await;
        let heard = Arc::new(Heard::default());
        let patience = Duration::from_millis(200);
        let committer = Committer::bounded(scene.scene.store.clone(), heard.clone(), 100, patience);
        let under_way = committer.queue(&scene.scene.tenant, say("under way"), 1).unwrap();
        scene.blocked().await;
        let behind = committer.queue(&scene.scene.tenant, say("behind"), 2).unwrap();
        assert_eq!(under_way.outcome().await.unwrap_err().code, ErrorCode::Unavailable);
        assert_eq!(behind.outcome().await.unwrap_err().code, ErrorCode::Unavailable);
        scene.release().await;
        heard.has_heard(1).await;
        let channel = scene.channel;
        assert_eq!(heard.0.lock().unwrap()[&channel], [(1, Some(1))], "what was in no batch yet was given up");
        assert_eq!(texts(&scene.scene.history(channel).await), ["under way"]);
    })
    .await;
}

/// A channel whose row another transaction holds.
struct Stalled {
    scene: Scene,
    channel: switchboard::model::ChannelId,
    holder: tokio_postgres::Client,
    /// Another connection, since a transaction sees the activity of its first look at it.
    watcher: tokio_postgres::Client,
}

impl Stalled {
    /// Waits until a commit waits for the row.
    async fn blocked(&self) {
        let blocked = async {
            while self.watcher.query_one(BLOCKED, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, blocked).await.expect("the commits wait for the row");
    }

    async fn release(&self) {
        self.holder.batch_execute("ROLLBACK").await.unwrap();
    }
}

async fn stalled(
    backing: &Backing,
    patience: Duration,
) -> (Stalled, std::sync::Arc<Committer>, impl Fn(&str) -> Commit + use<>) {
    let Backing::Postgres(url) = backing else { panic!("not a Postgres") };
    let scene = Scene::new(backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let (holder, watcher) = (connect(url).await, connect(url).await);
    holder.batch_execute("BEGIN; SELECT FROM tenant_acme.chat_channel FOR UPDATE").await.unwrap();
    let committer = Committer::with_limits(scene.store.clone(), 100, patience);
    let say = {
        let (scene, alice) = (scene.clone(), alice.clone());
        move |text: &str| scene.saying(channel, &alice, text)
    };
    (Stalled { scene, channel, holder, watcher }, committer, say)
}
