//! Read marks, readers and history.

use futures_util::future::join_all;
use switchboard::model::{Message, MessageId};
use switchboard::store::{AppliedRead, Commit, Span};

use crate::store::backing::Backing;
use crate::store::scene::{Scene, draft, hours, keyed, mark, seqs};

pub(crate) async fn a_mark_moves_forward_only(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    let mut said = Vec::new();
    for text in ["1", "2", "3"] {
        said.push(scene.say(channel, &alice, text).await);
    }
    let moved = |message: &Message, read_at| AppliedRead {
        kind: "message.read".parse().unwrap(),
        message: message.id,
        seq: message.seq,
        read_at,
    };
    let second = Commit { at: hours(1), ..scene.reading(channel, &bob, said[1].id) };
    let done = scene.done(&keyed(second.clone(), "k", 1)).await;
    assert_eq!(done.reads, [moved(&said[1], hours(1))]);
    assert_eq!((done.receipt.message, done.receipt.seq, done.messages.len()), (None, 3, 0));
    assert!(scene.done(&keyed(second, "k", 1)).await.reads.is_empty(), "the same mark again is no duplicate");
    assert!(scene.done(&scene.reading(channel, &bob, said[0].id)).await.reads.is_empty());

    let reads = vec![mark(said[0].id), mark(said[2].id), mark(said[1].id)];
    let done = scene.done(&Commit { reads, at: hours(2), ..scene.nothing(channel, &bob) }).await;
    assert_eq!(done.reads, [moved(&said[2], hours(2))], "of several the furthest");
    assert_eq!(scene.seq(channel).await, 3);
}

pub(crate) async fn marks_set_at_once_end_at_the_furthest(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob) = (scene.member("alice").await, scene.member("bob").await);
    let channel = scene.channel(&[&alice, &bob]).await;
    let drafts = (0..20).map(|_| (MessageId(scene.clock.uuid()), draft("x"))).collect();
    let said = scene.done(&Commit { drafts, ..scene.nothing(channel, &alice) }).await.messages;
    let marking = said.iter().rev().map(|message| {
        let (scene, commit) = (scene.clone(), scene.reading(channel, &bob, message.id));
        tokio::spawn(async move { scene.done(&commit).await })
    });
    for done in join_all(marking.collect::<Vec<_>>()).await {
        done.unwrap();
    }
    assert!(scene.history(channel).await.iter().all(|message| message.read_by == [bob.id.clone()]));
}

pub(crate) async fn a_message_is_read_by_those_whose_mark_is_past_it(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let (alice, bob, carol) = (scene.member("alice").await, scene.member("bob").await, scene.member("carol").await);
    let channel = scene.channel(&[&alice, &bob, &carol]).await;
    let first = scene.say(channel, &alice, "1").await;
    let second = scene.say(channel, &bob, "2").await;
    scene.read(channel, &carol, first.id).await;
    scene.read(channel, &bob, second.id).await;
    scene.read(channel, &alice, second.id).await;
    let kept = scene.history(channel).await;
    assert_eq!(kept[0].read_by, [bob.id.clone(), carol.id], "the sender is left out");
    assert_eq!(kept[1].read_by, vec![alice.id.clone()]);
    let found = scene.store.message(&scene.tenant, channel, first.id).await.unwrap().unwrap();
    assert_eq!(found.read_by, kept[0].read_by);
    let summary = scene.store.channel_summary(&scene.tenant, channel, &bob.id).await.unwrap().unwrap();
    assert_eq!(summary.last_message.unwrap().read_by, [alice.id]);
    assert!(scene.say(channel, &bob, "3").await.read_by.is_empty());
}

pub(crate) async fn readers_are_named_up_to_a_bound(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let mut users = Vec::new();
    for number in 0..Message::MAX_READERS + 3 {
        users.push(scene.member(&format!("u{number:03}")).await);
    }
    let channel = scene.channel(&users.iter().collect::<Vec<_>>()).await;
    let said = scene.say(channel, &users[1], "x").await;
    for user in users.iter().rev() {
        scene.read(channel, user, said.id).await;
    }
    let readers = scene.history(channel).await.remove(0).read_by;
    assert_eq!(readers.len(), Message::MAX_READERS);
    assert_eq!((readers[0].as_str(), readers[1].as_str(), readers[99].as_str()), ("u000", "u002", "u100"));
}

pub(crate) async fn history_comes_in_spans(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let channel = scene.channel(&[&alice]).await;
    let drafts = (0..10).map(|_| (MessageId(scene.clock.uuid()), draft("x"))).collect();
    scene.done(&Commit { drafts, ..scene.nothing(channel, &alice) }).await;
    for (span, limit, expected) in [
        (Span::Latest, 3, vec![8, 9, 10]),
        (Span::Latest, 100, (1..=10).collect()),
        (Span::Latest, 0, vec![]),
        (Span::Before(8), 3, vec![5, 6, 7]),
        (Span::Before(3), 5, vec![1, 2]),
        (Span::Before(1), 5, vec![]),
        (Span::Before(u64::MAX), 2, vec![9, 10]),
        (Span::After(0), 3, vec![1, 2, 3]),
        (Span::After(8), 5, vec![9, 10]),
        (Span::After(10), 5, vec![]),
        (Span::After(u64::MAX), 5, vec![]),
    ] {
        let found = scene.store.messages(&scene.tenant, channel, span, limit).await.unwrap();
        assert_eq!(seqs(&found), expected, "{span:?} {limit}");
    }
}

pub(crate) async fn a_message_is_found_in_its_own_channel_only(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let alice = scene.member("alice").await;
    let (here, there) = (scene.channel(&[&alice]).await, scene.channel(&[&alice]).await);
    let said = scene.say(here, &alice, "x").await;
    let find = |channel, id| scene.store.message(&scene.tenant, channel, id);
    assert_eq!(find(here, said.id).await.unwrap().unwrap().seq, 1);
    assert!(find(there, said.id).await.unwrap().is_none());
    assert!(find(here, MessageId(scene.clock.uuid())).await.unwrap().is_none());
}
