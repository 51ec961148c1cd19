//! What a commit promises: all or nothing, one order, each request once.

use futures_util::future::join_all;
use switchboard::model::{ChannelId, MessageId};
use switchboard::store::{Commit, Outcome, Span};

use crate::store::backing::Backing;
use crate::store::scene::{START, Scene, draft, duplicate, hours, keyed, mark, seqs, texts, user};

pub(crate) async fn the_first_message_is_number_one(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let commit = scene.saying(channel, &alice, "hello");
    let done = scene.done(&commit).await;
    assert_eq!((done.receipt.message, done.receipt.seq), (Some(commit.drafts[0].0), 1));
    assert_eq!((done.receipt.epoch.as_str(), done.receipt.created_at), ("e1", START));
    assert_eq!((done.messages.len(), done.reads.len(), scene.seq(channel).await), (1, 0, 1));

    let kept = scene.history(channel).await;
    for message in [&done.messages[0], &kept[0]] {
        assert_eq!((message.id, message.channel, message.seq), (commit.drafts[0].0, channel, 1));
        assert_eq!((message.kind.as_str(), &message.sender), ("chat.message", &alice));
        assert_eq!((message.content.get(), message.attachments.get()), ("\"hello\"", "[]"));
        assert_eq!((message.reply_to, message.created_at), (None, START));
        assert_eq!((message.edited_at, message.deleted_at, message.read_by.len()), (None, None, 0));
    }
}

pub(crate) async fn drafts_of_one_commit_are_numbered_in_order(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    scene.say(channel, &alice, "0").await;
    // Ids descend, so that an order by id would show.
    let mut ids: Vec<_> = (0..5).map(|_| MessageId(scene.clock.uuid())).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let drafts = ids.iter().zip(1..).map(|(id, place)| (*id, draft(&place.to_string()))).collect();
    let done = scene.done(&keyed(Commit { drafts, ..scene.nothing(channel, &alice) }, "k", 1)).await;
    assert_eq!((done.receipt.message, done.receipt.seq), (Some(ids[0]), 2));
    assert_eq!(seqs(&done.messages), [2, 3, 4, 5, 6]);
    assert_eq!(texts(&done.messages), ["1", "2", "3", "4", "5"]);
    assert_eq!(texts(&scene.history(channel).await), ["0", "1", "2", "3", "4", "5"]);
    let again = keyed(scene.saying(channel, &alice, "x"), "k", 1);
    assert_eq!(duplicate(scene.commit(&again).await), done.receipt);
}

pub(crate) async fn fifty_writers_leave_one_order_without_a_gap(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let writing = (0..50).map(|place| {
        let (scene, alice) = (scene.clone(), alice.clone());
        // Every fifth is refused, and must not leave a gap.
        tokio::spawn(async move {
            let mut commit = scene.saying(channel, &alice, &place.to_string());
            if place % 5 == 0 {
                commit.drafts[0].1.reply_to = Some(MessageId(scene.clock.uuid()));
            }
            scene.commit(&commit).await
        })
    });
    let mut told = Vec::new();
    for outcome in join_all(writing.collect::<Vec<_>>()).await {
        match outcome.unwrap() {
            Outcome::Done(mut done) => told.append(&mut done.messages),
            Outcome::UnknownMessage => {}
            other => panic!("{other:?}"),
        }
    }
    told.sort_by_key(|message| message.seq);
    assert_eq!(seqs(&told), (1..=40).collect::<Vec<_>>());
    let kept = scene.history(channel).await;
    let ids = |messages: &[switchboard::model::Message]| messages.iter().map(|message| message.id).collect::<Vec<_>>();
    assert_eq!(ids(&kept), ids(&told), "the order in the store is the one the senders were told");
    assert_eq!(scene.seq(channel).await, 40);
}

pub(crate) async fn a_repeated_request_gets_the_first_receipt(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let request = keyed(scene.saying(channel, &alice, "once"), "k", 1);
    let first = scene.done(&request).await;
    scene.say(channel, &alice, "between").await;
    // A client that repeats itself gets a new message id and a later time from its broker.
    let again = Commit { at: hours(1), ..keyed(scene.saying(channel, &alice, "once"), "k", 1) };
    assert_eq!(duplicate(scene.commit(&again).await), first.receipt);
    assert_eq!((texts(&scene.history(channel).await).len(), scene.seq(channel).await), (2, 2));
}

pub(crate) async fn a_key_used_for_something_else_is_a_conflict(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let first = scene.done(&keyed(scene.saying(channel, &alice, "one"), "k", 1)).await;
    let other = keyed(scene.saying(channel, &alice, "two"), "k", 2);
    assert!(matches!(scene.commit(&other).await, Outcome::IdConflict));
    let marking = keyed(scene.reading(channel, &alice, first.messages[0].id), "k", 3);
    assert!(matches!(scene.commit(&marking).await, Outcome::IdConflict));
    assert_eq!((texts(&scene.history(channel).await), scene.seq(channel).await), (vec!["one".to_owned()], 1));
}

pub(crate) async fn a_key_belongs_to_one_sender(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    scene.done(&keyed(scene.saying(channel, &alice, "a"), "k", 1)).await;
    assert_eq!(scene.done(&keyed(scene.saying(channel, &bob, "b"), "k", 2)).await.receipt.seq, 2);
}

pub(crate) async fn a_key_is_known_in_every_channel(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let (here, there) = (scene.channel(&[&alice]).await, scene.channel(&[&alice]).await);
    let first = scene.done(&keyed(scene.saying(here, &alice, "a"), "k", 1)).await;
    assert_eq!(duplicate(scene.commit(&keyed(scene.saying(there, &alice, "a"), "k", 1)).await), first.receipt);
    assert!(matches!(scene.commit(&keyed(scene.saying(there, &alice, "a"), "k", 2)).await, Outcome::IdConflict));
    assert_eq!((scene.seq(here).await, scene.seq(there).await), (1, 0));
}

pub(crate) async fn a_request_repeated_at_once_is_stored_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    for round in 0..10_u64 {
        let commits = (0..4).map(|_| keyed(scene.saying(channel, &alice, "x"), &format!("k{round}"), 1));
        let receipts = at_once(&scene, commits.collect()).await;
        assert!(receipts.iter().all(|receipt| receipt.as_ref().unwrap().seq == round + 1), "{receipts:?}");
        assert_eq!(scene.seq(channel).await, round + 1);
    }
}

pub(crate) async fn a_key_used_at_once_in_two_channels_is_stored_once(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let (here, there) = (scene.channel(&[&alice]).await, scene.channel(&[&alice]).await);
    for round in 0..10_u64 {
        let key = format!("k{round}");
        // One pair repeats itself, the next contradicts itself.
        let other = u8::try_from(round % 2).unwrap();
        let one = keyed(scene.saying(here, &alice, "x"), &key, 0);
        let two = keyed(scene.saying(there, &alice, "x"), &key, other);
        let receipts = at_once(&scene, vec![one, two]).await;
        assert_eq!(receipts.iter().flatten().count(), if other == 0 { 2 } else { 1 }, "{receipts:?}");
        assert_eq!(scene.seq(here).await + scene.seq(there).await, round + 1);
    }
}

/// Commits at the same moment, expects exactly one to be done, and returns every receipt; none for a conflict.
async fn at_once(scene: &Scene, commits: Vec<Commit>) -> Vec<Option<switchboard::store::Receipt>> {
    let committing = commits.into_iter().map(|commit| {
        let scene = scene.clone();
        tokio::spawn(async move { scene.commit(&commit).await })
    });
    let (mut done, mut receipts) = (0, Vec::new());
    for outcome in join_all(committing.collect::<Vec<_>>()).await {
        receipts.push(match outcome.unwrap() {
            Outcome::Done(committed) => {
                done += 1;
                Some(committed.receipt)
            }
            Outcome::Duplicate(receipt) => Some(receipt),
            Outcome::IdConflict => None,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(done, 1, "{receipts:?}");
    receipts
}

pub(crate) async fn an_unknown_channel_stores_nothing(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let (channel, none) = (scene.channel(&[&alice]).await, ChannelId(scene.clock.uuid()));
    let said = keyed(scene.saying(none, &alice, "x"), "k", 1);
    assert!(matches!(scene.commit(&said).await, Outcome::UnknownChannel));
    assert!(matches!(scene.commit(&scene.nothing(none, &alice)).await, Outcome::UnknownChannel));
    assert!(scene.store.messages(&scene.tenant, none, Span::Latest, 10).await.unwrap().is_empty());
    scene.done(&Commit { channel, ..said }).await;
}

pub(crate) async fn an_answer_to_an_unknown_message_stores_nothing(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let (here, there) = (scene.channel(&[&alice]).await, scene.channel(&[&alice]).await);
    let (near, far) = (scene.say(here, &alice, "near").await, scene.say(there, &alice, "far").await);
    let mut own = keyed(scene.saying(here, &alice, "x"), "k", 1);
    own.drafts.push((MessageId(scene.clock.uuid()), draft("y")));
    own.reads.push(mark(near.id));
    for unknown in [far.id, MessageId(scene.clock.uuid()), own.drafts[0].0] {
        own.drafts[1].1.reply_to = Some(unknown);
        assert!(matches!(scene.commit(&own).await, Outcome::UnknownMessage));
        assert_eq!((texts(&scene.history(here).await), scene.seq(here).await), (vec!["near".to_owned()], 1));
    }
    // Neither the key nor the read mark was kept.
    own.drafts[1].1.reply_to = Some(near.id);
    let done = scene.done(&own).await;
    assert_eq!((done.receipt.seq, done.reads.len()), (2, 1));
}

pub(crate) async fn a_mark_on_an_unknown_message_stores_nothing(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let (here, there) = (scene.channel(&[&alice, &bob]).await, scene.channel(&[&alice, &bob]).await);
    let (near, far) = (scene.say(here, &alice, "near").await, scene.say(there, &alice, "far").await);
    let mut commit = scene.saying(here, &bob, "x");
    commit.reads = vec![mark(near.id), mark(far.id)];
    assert!(matches!(scene.commit(&commit).await, Outcome::UnknownMessage));
    assert!(matches!(scene.commit(&Commit { drafts: vec![], ..commit }).await, Outcome::UnknownMessage));
    let kept = scene.history(here).await;
    assert_eq!((kept.len(), kept[0].read_by.len(), scene.seq(here).await), (1, 0, 1));
}

pub(crate) async fn an_answer_names_its_message(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let first = scene.say(channel, &alice, "ping").await;
    let mut answer = scene.saying(channel, &alice, "pong");
    answer.drafts[0].1.reply_to = Some(first.id);
    assert_eq!(scene.done(&answer).await.messages[0].reply_to, Some(first.id));
    assert_eq!(scene.history(channel).await[1].reply_to, Some(first.id));
}

/// Otherwise the message would be stored and could not be shown.
pub(crate) async fn a_sender_must_be_in_the_channel(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice]).await;
    for outsider in [bob, user("9", "stranger")] {
        let refused = scene.commit(&scene.saying(channel, &outsider, "x")).await;
        assert!(matches!(refused, Outcome::UnknownChannel), "{refused:?}");
    }
    assert_eq!(scene.say(channel, &alice, "first").await.seq, 1);
}

pub(crate) async fn a_message_of_64_kib_comes_back_whole(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let text = "ü'\"\\".repeat(64 * 1024 / 5);
    scene.say(channel, &alice, &text).await;
    assert_eq!(texts(&scene.history(channel).await), [text]);
}
