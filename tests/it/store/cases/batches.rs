//! What a batch promises: each of its commits is done or refused by itself, in the order of the batch.

use futures_util::future::join_all;
use switchboard::model::{ChannelId, MessageId, User};
use switchboard::store::{Commit, Outcome};
use switchboard_tests::DEADLINE;
use tokio::time::timeout;

use crate::store::backing::Backing;
use crate::store::scene::{Scene, done, draft, duplicate, keyed, mark, seqs, texts};

pub(crate) async fn a_batch_answers_each_commit_in_its_place(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channels = [scene.channel(&[&alice, &bob]).await, scene.channel(&[&bob]).await, scene.channel(&[&alice]).await];
    let batch = [
        scene.saying(channels[2], &alice, "a"),
        scene.saying(channels[0], &bob, "b"),
        scene.saying(channels[1], &bob, "c"),
    ];
    for (outcome, commit) in scene.batch(&batch).await.into_iter().zip(&batch) {
        let done = done(outcome);
        assert_eq!((done.receipt.message, done.receipt.seq), (Some(commit.drafts[0].0), 1));
        let kept = scene.history(commit.channel).await;
        assert_eq!((kept.len(), kept[0].id, &kept[0].sender), (1, commit.drafts[0].0, &commit.sender));
    }
}

pub(crate) async fn commits_of_one_channel_are_numbered_in_the_order_of_the_batch(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let (here, there) = (scene.channel(&[&alice, &bob]).await, scene.channel(&[&bob]).await);
    scene.say(here, &bob, "0").await;
    // Keys descend, so that an order by key would show; so does every other order but the batch's.
    let batch: Vec<Commit> = (1..=40)
        .map(|place| match place % 4 {
            0 => scene.saying(there, &bob, &place.to_string()),
            1 => {
                let mut two = scene.saying(here, &bob, &format!("{place}a"));
                two.drafts.push((MessageId(scene.clock.uuid()), draft(&format!("{place}b"))));
                keyed(two, &format!("k{}", 99 - place), 1)
            }
            _ => keyed(scene.saying(here, &alice, &place.to_string()), &format!("k{}", 99 - place), 1),
        })
        .collect();
    let told: Vec<_> = scene.batch(&batch).await.into_iter().flat_map(|outcome| done(outcome).messages).collect();
    let (told_here, told_there): (Vec<_>, Vec<_>) = told.into_iter().partition(|message| message.channel == here);
    assert_eq!(seqs(&told_here), (2..=41).collect::<Vec<_>>());
    assert_eq!(seqs(&told_there), (1..=10).collect::<Vec<_>>());
    assert_eq!(texts(&scene.history(here).await)[1..], texts(&told_here));
    assert_eq!(texts(&scene.history(there).await), texts(&told_there));
    assert_eq!((scene.seq(here).await, scene.seq(there).await), (41, 10));
}

pub(crate) async fn a_refused_commit_keeps_no_other_from_being_done(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let (here, there) = (scene.channel(&[&alice, &bob]).await, scene.channel(&[&bob]).await);
    let first = scene.done(&keyed(scene.saying(here, &alice, "first"), "k", 1)).await;
    let far = scene.say(there, &bob, "far").await;

    let mut answer_to_none = keyed(scene.saying(here, &bob, "to none"), "none", 1);
    answer_to_none.drafts[0].1.reply_to = Some(MessageId(scene.clock.uuid()));
    let mut answer_elsewhere = scene.saying(here, &bob, "to elsewhere");
    answer_elsewhere.drafts[0].1.reply_to = Some(far.id);
    let mut good_answer = scene.saying(here, &bob, "good answer");
    good_answer.drafts[0].1.reply_to = Some(first.messages[0].id);
    let batch = [
        scene.saying(here, &alice, "good 1"),
        scene.saying(ChannelId(scene.clock.uuid()), &alice, "nowhere"),
        answer_to_none,
        keyed(scene.saying(here, &alice, "first"), "k", 1),
        keyed(scene.saying(here, &bob, "good 2"), "k", 1),
        answer_elsewhere,
        scene.saying(there, &alice, "not a member"),
        Commit { reads: vec![mark(far.id)], ..scene.saying(here, &bob, "marked elsewhere") },
        good_answer,
    ];
    let outcomes = scene.batch(&batch).await;
    assert!(matches!(outcomes[1], Outcome::UnknownChannel), "{:?}", outcomes[1]);
    assert!(matches!(outcomes[2], Outcome::UnknownMessage), "{:?}", outcomes[2]);
    assert_eq!(duplicate(outcomes[3].clone()), first.receipt);
    assert!(matches!(outcomes[5], Outcome::UnknownMessage), "{:?}", outcomes[5]);
    assert!(matches!(outcomes[6], Outcome::UnknownChannel), "{:?}", outcomes[6]);
    assert!(matches!(outcomes[7], Outcome::UnknownMessage), "{:?}", outcomes[7]);
    let good = [0, 4, 8].map(|place: usize| done(outcomes[place].clone()).receipt.seq);
    assert_eq!(good, [2, 3, 4]);
    assert_eq!(texts(&scene.history(here).await), ["first", "good 1", "good 2", "good answer"]);
    assert_eq!((scene.seq(here).await, scene.seq(there).await), (4, 1));

    // A key used for something else, and the key of a commit that was refused.
    let conflicting =
        [keyed(scene.saying(here, &alice, "other"), "k", 2), keyed(scene.saying(there, &bob, "again"), "none", 2)];
    let outcomes = scene.batch(&conflicting).await;
    assert!(matches!(outcomes[0], Outcome::IdConflict), "{:?}", outcomes[0]);
    assert_eq!(done(outcomes[1].clone()).receipt.seq, 2);
    assert_eq!((scene.seq(here).await, scene.seq(there).await), (4, 2));
}

pub(crate) async fn a_batch_of_marks_moves_each_cursor(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    let one = scene.say(channel, &alice, "one").await;
    let two = scene.say(channel, &bob, "two").await;
    scene.read(channel, &bob, one.id).await;
    let batch = [
        Commit { reads: vec![mark(two.id), mark(one.id)], ..scene.nothing(channel, &alice) },
        scene.reading(channel, &bob, one.id),
        Commit { reads: vec![mark(MessageId(scene.clock.uuid()))], ..scene.nothing(channel, &bob) },
    ];
    let outcomes = scene.batch(&batch).await;
    let (moved, stayed) = (done(outcomes[0].clone()), done(outcomes[1].clone()));
    assert_eq!(moved.reads.iter().map(|read| (read.message, read.seq)).collect::<Vec<_>>(), [(two.id, 2)]);
    assert_eq!((moved.receipt.message, moved.receipt.seq), (None, 2));
    assert!(stayed.reads.is_empty() && stayed.messages.is_empty(), "{stayed:?}");
    assert!(matches!(outcomes[2], Outcome::UnknownMessage), "{:?}", outcomes[2]);
    let kept = scene.history(channel).await;
    let readers: Vec<_> = kept.iter().map(|message| message.read_by.clone()).collect();
    assert_eq!(readers, [vec![bob.id], vec![alice.id]]);
    assert_eq!(scene.seq(channel).await, 2);
}

/// Nobody has seen a message before it is committed, so nobody can answer it in the same batch but by a guess.
pub(crate) async fn a_commit_knows_nothing_of_those_beside_it(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let said = scene.saying(channel, &alice, "said");
    let mut answer = scene.saying(channel, &alice, "answer");
    answer.drafts[0].1.reply_to = Some(said.drafts[0].0);
    let outcomes = scene.batch(&[said, answer.clone()]).await;
    assert!(matches!(outcomes[..], [Outcome::Done(_), Outcome::UnknownMessage]), "{outcomes:?}");
    assert_eq!(scene.done(&answer).await.receipt.seq, 2);
}

/// Each round commits on two stores, as two nodes do, the same channels and cursors in opposite orders.
pub(crate) async fn batches_in_opposite_orders_do_not_block_each_other(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let nodes = [scene.clone(), Scene { store: backing.open().await, ..scene.clone() }];
    let people: Vec<User> = join_all((0..8).map(|number| {
        let scene = scene.clone();
        async move { scene.member(&format!("member{number}")).await }
    }))
    .await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        let channel = scene.channel(&people.iter().collect::<Vec<_>>()).await;
        channels.push((channel, scene.say(channel, &people[0], "0").await.id));
    }
    let rounds = 12;
    for round in 0..rounds {
        let batches = nodes.iter().enumerate().map(|(node, scene)| {
            let mut batch: Vec<Commit> = channels
                .iter()
                .zip(&people)
                .map(|((channel, first), person)| {
                    let said = scene.saying(*channel, person, &format!("{round}"));
                    let said = keyed(said, &format!("{node} {round}"), 1);
                    Commit { reads: vec![mark(*first)], ..said }
                })
                .collect();
            if node == 1 {
                batch.reverse();
            }
            let scene = scene.clone();
            tokio::spawn(async move { scene.batch(&batch).await })
        });
        for outcomes in timeout(DEADLINE, join_all(batches.collect::<Vec<_>>())).await.expect("nobody waits for long") {
            outcomes.unwrap().into_iter().for_each(|outcome| drop(done(outcome)));
        }
    }
    for (channel, _) in channels {
        assert_eq!(seqs(&scene.history(channel).await), (1..=1 + 2 * rounds).collect::<Vec<_>>());
    }
}

/// The shared keys stand at opposite ends of the batches, and in different channels, so that no lock on a channel makes
/// the batches take turns.
pub(crate) async fn batches_at_once_store_a_shared_key_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let nodes = [scene.clone(), Scene { store: backing.open().await, ..scene.clone() }];
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channels = [scene.channel(&[&alice, &bob]).await, scene.channel(&[&alice, &bob]).await];
    for round in 0..10 {
        let batches = nodes.iter().zip(channels).enumerate().map(|(node, (scene, channel))| {
            let mut batch = vec![
                keyed(scene.saying(channel, &alice, "x"), &format!("shared {round}"), 1),
                keyed(scene.saying(channel, &alice, "own"), &format!("own {node} {round}"), 1),
                keyed(scene.saying(channel, &bob, "x"), &format!("shared {round}"), 1),
            ];
            if node == 1 {
                batch.reverse();
            }
            let scene = scene.clone();
            tokio::spawn(async move {
                let mut outcomes = scene.batch(&batch).await;
                if node == 1 {
                    outcomes.reverse();
                }
                outcomes
            })
        });
        let answers: Vec<Vec<Outcome>> = timeout(DEADLINE, join_all(batches.collect::<Vec<_>>()))
            .await
            .expect("nobody waits for long")
            .into_iter()
            .map(Result::unwrap)
            .collect();
        for place in [0, 2] {
            let receipts: Vec<_> = answers
                .iter()
                .map(|outcomes| match &outcomes[place] {
                    Outcome::Done(done) => (true, done.receipt.clone()),
                    Outcome::Duplicate(receipt) => (false, receipt.clone()),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(receipts.iter().filter(|(first, _)| *first).count(), 1, "{receipts:?}");
            assert_eq!(receipts[0].1, receipts[1].1);
        }
        assert!(answers.iter().all(|outcomes| matches!(outcomes[1], Outcome::Done(_))), "{answers:?}");
    }
    let total = scene.seq(channels[0]).await + scene.seq(channels[1]).await;
    assert_eq!(total, 10 * 4, "two shared and two own messages a round");
}

pub(crate) async fn an_empty_batch_is_nothing(backing: Backing) {
    let scene = Scene::new(&backing).await;
    assert!(scene.batch(&[]).await.is_empty());
}
