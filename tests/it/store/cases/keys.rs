//! What plugins keep: each its own keys, written with the messages of the same event or not at all.

use std::time::Duration;

use futures_util::future::join_all;
use switchboard::model::{ChannelId, KvEntry, KvWrite, MessageId, PluginName, Timestamp, User};
use switchboard::store::{Commit, Committed, Outcome};
use switchboard_tests::DEADLINE;
use tokio::time::timeout;

use crate::store::backing::Backing;
use crate::store::scene::{
    START, Scene, amending, done, draft, duplicate, hours, keyed, mark, plugin, put, removal, texts,
};

/// A tenant with one member in one channel.
struct Room {
    scene: Scene,
    alice: User,
    channel: ChannelId,
}

impl Room {
    async fn new(backing: &Backing) -> Self {
        let scene = Scene::new(backing).await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        Self { scene, alice, channel }
    }

    /// A commit that writes keys of the plugin `poll`, and nothing else.
    fn writing(&self, writes: Vec<KvWrite>) -> Commit {
        Commit { kv: Some((plugin("poll"), writes)), ..self.scene.nothing(self.channel, &self.alice) }
    }

    /// The same, beside a message.
    fn saying(&self, text: &str, writes: Vec<KvWrite>) -> Commit {
        Commit { drafts: vec![(MessageId(self.scene.clock.uuid()), draft(text))], ..self.writing(writes) }
    }

    async fn write(&self, writes: Vec<KvWrite>) -> Committed {
        self.scene.done(&self.writing(writes)).await
    }

    async fn get(&self, key: &str) -> Option<KvEntry> {
        self.get_at(key, START).await
    }

    async fn get_at(&self, key: &str, now: Timestamp) -> Option<KvEntry> {
        self.scene.store.kv_get(&self.scene.tenant, &plugin("poll"), key, now).await.unwrap()
    }

    async fn value(&self, key: &str) -> Option<String> {
        self.get(key).await.map(|entry| String::from_utf8(entry.value).unwrap())
    }

    async fn version(&self, key: &str) -> u64 {
        self.get(key).await.map_or(0, |entry| entry.version)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: u32, now: Timestamp) -> Vec<String> {
        let store = &self.scene.store;
        let found = store.kv_list(&self.scene.tenant, &plugin("poll"), prefix, after, limit, now).await.unwrap();
        found.into_iter().map(|entry| entry.key).collect()
    }

    async fn said(&self) -> Vec<String> {
        texts(&self.scene.history(self.channel).await)
    }
}

fn expecting(write: KvWrite, version: u64) -> KvWrite {
    KvWrite { expected: Some(version), ..write }
}

fn until(write: KvWrite, end: Timestamp) -> KvWrite {
    KvWrite { expires_at: Some(end), ..write }
}

pub(crate) async fn a_key_is_put_replaced_and_removed(backing: Backing) {
    let room = Room::new(&backing).await;
    assert_eq!(room.get("votes").await, None);
    let first = room.write(vec![put("votes", "1"), put("", "an empty key is one, too")]).await;
    assert_eq!((first.receipt.message, first.receipt.seq, first.messages.len()), (None, 0, 0));
    let one = room.get("votes").await.unwrap();
    assert_eq!((one.key.as_str(), one.value.as_slice()), ("votes", b"1".as_slice()));
    assert!(one.version > 0);
    // Of two writes of a key the later one stands.
    room.write(vec![removal("votes"), put("votes", "lost"), put("votes", "2")]).await;
    let two = room.get("votes").await.unwrap();
    assert_eq!(two.value, b"2");
    assert!(two.version > one.version, "{two:?} after {one:?}");
    room.write(vec![removal("votes"), removal("never was")]).await;
    assert_eq!(room.get("votes").await, None);
    // Whoever read it before it was gone must not take it for the one that was read.
    room.write(vec![put("votes", "3")]).await;
    let three = room.get("votes").await.unwrap();
    assert!(three.version > two.version, "{three:?} after {two:?}");
    let elsewhere = Room { scene: Scene { store: backing.open().await, ..room.scene.clone() }, ..room };
    assert_eq!(elsewhere.get("votes").await, Some(three));
    assert_eq!(elsewhere.value("").await.as_deref(), Some("an empty key is one, too"));
}

pub(crate) async fn a_key_is_written_only_at_the_version_that_is_expected(backing: Backing) {
    let room = Room::new(&backing).await;
    let conflicts = async |write: KvWrite| {
        let refused = room.scene.commit(&room.writing(vec![put("other", "x"), write])).await;
        assert!(matches!(refused, Outcome::KvConflict), "{refused:?}");
        assert_eq!(room.get("other").await, None, "nothing of it is written");
    };
    conflicts(expecting(put("votes", "1"), 1)).await;
    conflicts(expecting(removal("votes"), 7)).await;
    // Both expect what there was before the commit.
    room.write(vec![expecting(put("votes", "1"), 0), expecting(put("votes", "2"), 0)]).await;
    let version = room.version("votes").await;
    conflicts(expecting(put("votes", "3"), 0)).await;
    conflicts(expecting(put("votes", "3"), version + 1)).await;
    assert_eq!(room.value("votes").await.as_deref(), Some("2"));
    room.write(vec![expecting(put("votes", "3"), version)]).await;
    conflicts(expecting(removal("votes"), version)).await;
    room.write(vec![expecting(removal("votes"), room.version("votes").await)]).await;
    room.write(vec![expecting(put("votes", "4"), 0)]).await;
    assert_eq!(room.value("votes").await.as_deref(), Some("4"));
}

pub(crate) async fn keys_and_messages_are_committed_together_or_not_at_all(backing: Backing) {
    let room = Room::new(&backing).await;
    let whole = room.scene.done(&room.saying("one", vec![expecting(put("votes", "1"), 0)])).await;
    assert_eq!((whole.receipt.seq, room.value("votes").await.as_deref()), (1, Some("1")));

    let conflict = keyed(room.saying("two", vec![expecting(put("votes", "2"), 0)]), "k", 1);
    assert!(matches!(room.scene.commit(&conflict).await, Outcome::KvConflict));
    let mut unknown = keyed(room.saying("two", vec![put("votes", "2")]), "k", 1);
    unknown.drafts[0].1.reply_to = Some(MessageId(room.scene.clock.uuid()));
    assert!(matches!(room.scene.commit(&unknown).await, Outcome::UnknownMessage));
    let unread =
        Commit { reads: vec![mark(MessageId(room.scene.clock.uuid()))], ..room.writing(vec![put("votes", "2")]) };
    assert!(matches!(room.scene.commit(&unread).await, Outcome::UnknownMessage));
    let stranger = Commit { sender: room.scene.member("bob").await, ..room.writing(vec![put("votes", "2")]) };
    assert!(matches!(room.scene.commit(&stranger).await, Outcome::UnknownChannel));
    assert_eq!((room.value("votes").await.as_deref(), room.said().await), (Some("1"), vec!["one".to_owned()]));

    // Neither the number nor the request of what was refused was used up.
    let read = Commit {
        reads: vec![mark(whole.messages[0].id)],
        ..keyed(room.saying("two", vec![put("votes", "2")]), "k", 1)
    };
    let two = room.scene.done(&read).await;
    assert_eq!((two.receipt.seq, two.reads.len(), room.value("votes").await.as_deref()), (2, 1, Some("2")));
}

pub(crate) async fn keys_come_in_pages_by_their_bytes(backing: Backing) {
    let room = Room::new(&backing).await;
    let mut keys = vec!["a", "a:", "a:1", "a:10", "a:2", "a:\0", "a:ü", "a:\u{10ffff}", "a;", "b", "'%_\"\\"];
    room.write(keys.iter().map(|key| put(key, "")).collect()).await;
    keys.sort_unstable();
    assert_eq!(room.list("", None, 100, START).await, keys);
    let begins: Vec<_> = keys.iter().filter(|key| key.starts_with("a:")).copied().collect();
    assert_eq!(room.list("a:", None, 100, START).await, begins);
    let first = room.list("a:", None, 3, START).await;
    let second = room.list("a:", Some(&first[2]), 3, START).await;
    let third = room.list("a:", Some(&second[2]), 3, START).await;
    assert_eq!([first, second, third].concat(), begins);
    // What comes after need not be a key, nor begin as the others do.
    assert_eq!(room.list("a:", Some("a"), 100, START).await, begins);
    assert_eq!(room.list("a:", Some("a:1\0"), 1, START).await, ["a:10"]);
    assert!(room.list("a:", Some("b"), 100, START).await.is_empty());
    assert!(room.list("%", None, 100, START).await.is_empty() && room.list("a:1_", None, 9, START).await.is_empty());
    let found = room.scene.store.kv_list(&room.scene.tenant, &plugin("poll"), "a:1", None, 1, START).await.unwrap();
    assert_eq!(found[0], room.get("a:1").await.unwrap());
}

pub(crate) async fn a_key_ends_at_its_time(backing: Backing) {
    let room = Room::new(&backing).await;
    room.write(vec![until(put("short", "1"), hours(1)), put("long", "1"), until(put("renewed", "1"), hours(1))]).await;
    room.write(vec![until(put("renewed", "2"), hours(3))]).await;
    let almost = Timestamp(hours(1).0 - 1);
    assert!(room.get_at("short", almost).await.is_some() && room.get_at("short", hours(1)).await.is_none());
    assert_eq!(room.list("", None, 9, almost).await, ["long", "renewed", "short"]);
    assert_eq!(room.list("", None, 9, hours(1)).await, ["long", "renewed"]);

    let version = room.version("short").await;
    let later = |write| Commit { at: hours(2), ..room.writing(vec![write]) };
    let gone = room.scene.commit(&later(expecting(put("short", "2"), version))).await;
    assert!(matches!(gone, Outcome::KvConflict), "{gone:?}");
    room.scene.done(&later(expecting(put("short", "2"), 0))).await;
    let again = room.get_at("short", hours(9)).await.expect("it has no end now");
    assert!(again.version > version);
}

pub(crate) async fn what_a_plugin_keeps_is_bounded_and_what_ends_makes_room(backing: Backing) {
    let room = Room::new(&backing).await;
    // All the room but less than one value: half of them end after an hour.
    let (full, count) = ("x".repeat(KvWrite::MAX_VALUE), KvWrite::MAX_BYTES / KvWrite::MAX_VALUE as u64 - 1);
    for portion in (0..count).collect::<Vec<_>>().chunks(64) {
        let writes = portion.iter().map(|key| match key % 2 {
            0 => put(&key.to_string(), &full),
            _ => until(put(&key.to_string(), &full), hours(1)),
        });
        room.write(writes.collect()).await;
    }
    let more = room.saying("no room", vec![put("small", "x"), put("more", &full)]);
    for at in [START, Timestamp(hours(1).0 - 1)] {
        let refused = room.scene.commit(&Commit { at, ..more.clone() }).await;
        assert!(matches!(refused, Outcome::KvFull), "{refused:?}");
    }
    assert_eq!((room.get("small").await, room.said().await.len()), (None, 0));
    let elsewhere = Commit { kv: Some((plugin("other"), vec![put("more", &full)])), ..room.writing(vec![]) };
    room.scene.done(&elsewhere).await;

    room.write(vec![removal("0"), put("more", &full)]).await;
    assert!(matches!(room.scene.commit(&more).await, Outcome::Done(_)), "in its own place there is room");
    let next = room.writing(vec![put("next", &full)]);
    assert!(matches!(room.scene.commit(&next).await, Outcome::KvFull));
    room.scene.done(&Commit { at: hours(1), ..next }).await;
    assert_eq!(room.list("", None, 9_999, hours(1)).await.len() as u64, count.div_ceil(2) + 2);
}

pub(crate) async fn a_request_that_stores_no_message_is_done_once(backing: Backing) {
    let room = Room::new(&backing).await;
    let one = room.scene.say(room.channel, &room.alice, "one").await;
    let vote = keyed(room.writing(vec![put("votes", "1")]), "k", 1);
    let first = room.scene.done(&vote).await.receipt;
    assert_eq!((first.message, first.seq), (None, 1));
    room.scene.say(room.channel, &room.alice, "between").await;
    let version = room.version("votes").await;
    for again in [
        Commit { at: hours(1), ..vote.clone() },
        keyed(room.writing(vec![expecting(put("votes", "2"), 99)]), "k", 1),
        keyed(room.saying("it may store something now", vec![put("votes", "2")]), "k", 1),
        keyed(room.scene.saying(room.channel, &room.alice, "it may store a message alone"), "k", 1),
        keyed(room.writing(vec![]), "k", 1),
    ] {
        assert_eq!(duplicate(room.scene.commit(&again).await), first);
    }
    let reading = keyed(room.scene.reading(room.channel, &room.alice, one.id), "k", 1);
    let between = room.scene.saying(room.channel, &room.alice, "beside it");
    let both = room.scene.batch(&[reading, between]).await;
    assert_eq!(duplicate(both[0].clone()), first, "though a read mark by itself keeps no request");
    done(both[1].clone());
    let saying = room.scene.saying(room.channel, &room.alice, "another request");
    for other in [room.writing(vec![put("votes", "3")]), room.writing(vec![]), saying] {
        let other = keyed(other, "k", 2);
        assert!(matches!(room.scene.commit(&other).await, Outcome::IdConflict));
    }
    // To ask whether a key was used does not use it.
    done(room.scene.commit(&keyed(room.writing(vec![]), "free", 1)).await);
    done(room.scene.commit(&keyed(room.writing(vec![put("free", "1")]), "free", 2)).await);
    assert_eq!((room.version("votes").await, room.said().await.len()), (version, 3));
    let bob = room.scene.member("bob").await;
    assert!(
        room.scene
            .store
            .add_channel_member(&room.scene.tenant, room.channel, &bob.id, switchboard::model::Role::Member, START)
            .await
            .unwrap()
    );
    done(room.scene.commit(&Commit { sender: bob, ..vote }).await);

    // With a message it is the message's.
    let told = keyed(room.saying("told", vec![expecting(put("told", "1"), 0)]), "m", 1);
    let first = room.scene.done(&told).await.receipt;
    assert_eq!(duplicate(room.scene.commit(&told).await), first, "though its keys have moved on");
    assert_eq!(duplicate(room.scene.commit(&keyed(room.writing(vec![put("told", "2")]), "m", 1)).await), first);
    assert!(matches!(
        room.scene.commit(&keyed(room.writing(vec![put("told", "2")]), "m", 2)).await,
        Outcome::IdConflict
    ));
    assert_eq!(room.value("told").await.as_deref(), Some("1"));
}

pub(crate) async fn a_request_that_stores_no_message_is_remembered_for_a_week(backing: Backing) {
    let room = Room::new(&backing).await;
    let vote = keyed(room.writing(vec![put("votes", "1")]), "k", 1);
    let first = room.scene.done(&vote).await.receipt;
    let (last, over) = (START.plus(Commit::REMEMBERED), START.plus(Commit::REMEMBERED + Duration::from_millis(1)));
    let another = |at| Commit { at, ..room.writing(vec![put("another", "1")]) };
    room.scene.done(&another(last)).await;
    assert_eq!(duplicate(room.scene.commit(&Commit { at: last, ..vote.clone() }).await), first);
    // It is forgotten when something is written, so what is kept does not grow for ever.
    room.scene.done(&another(over)).await;
    let again = room.scene.done(&Commit { at: over, ..vote }).await.receipt;
    assert_eq!(again.created_at, over);
}

pub(crate) async fn a_batch_judges_keys_in_its_order(backing: Backing) {
    let room = Room::new(&backing).await;
    room.write(vec![put("votes", "0")]).await;
    let version = room.version("votes").await;
    let expect = |text: &str| vec![expecting(put("votes", text), version)];
    let mut refused = room.saying("to none", expect("none"));
    refused.drafts[0].1.reply_to = Some(MessageId(room.scene.clock.uuid()));
    let other = Commit { kv: Some((plugin("other"), expect("other's"))), ..room.writing(vec![]) };
    let batch = [
        refused,
        room.scene.saying(room.channel, &room.alice, "before"),
        room.saying("first", expect("first")),
        room.saying("second", expect("second")),
        other,
        room.scene.saying(room.channel, &room.alice, "after"),
        room.writing(vec![put("votes", "whatever there was")]),
        room.saying("new", vec![expecting(put("new", "1"), 0)]),
        room.saying("not new", vec![expecting(put("new", "2"), 0)]),
    ];
    let outcomes = room.scene.batch(&batch).await;
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Done(_) => "done",
            Outcome::UnknownMessage => "unknown message",
            Outcome::KvConflict => "conflict",
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = ["unknown message", "done", "done", "conflict", "conflict", "done", "done", "done", "conflict"];
    assert_eq!(told, expected);
    assert_eq!(room.said().await, ["before", "first", "after", "new"]);
    assert_eq!(room.value("votes").await.as_deref(), Some("whatever there was"));
    assert_eq!(room.value("new").await.as_deref(), Some("1"));
    assert_eq!(room.scene.seq(room.channel).await, 4, "and no number was lost");
}

pub(crate) async fn keys_belong_to_one_plugin_of_one_tenant(backing: Backing) {
    let room = Room::new(&backing).await;
    let other = Scene::of(room.scene.store.clone(), "other").await;
    room.write(vec![put("votes", "1")]).await;
    for (tenant, name) in [(&room.scene.tenant, "other"), (&other.tenant, "poll")] {
        let store = &room.scene.store;
        assert_eq!(store.kv_get(tenant, &plugin(name), "votes", START).await.unwrap(), None);
        assert!(store.kv_list(tenant, &plugin(name), "", None, 10, START).await.unwrap().is_empty());
    }
    let alice = other.member("alice").await;
    let channel = other.channel(&[&alice]).await;
    let there =
        Commit { kv: Some((plugin("poll"), vec![expecting(put("votes", "2"), 0)])), ..other.nothing(channel, &alice) };
    other.done(&there).await;
    room.write(vec![removal("votes")]).await;
    let kept = other.store.kv_get(&other.tenant, &plugin("poll"), "votes", START).await.unwrap();
    assert_eq!(kept.map(|entry| entry.value), Some(b"2".to_vec()));
}

/// Each reads, adds one and writes at the version it has read, on two stores, as two nodes do it.
pub(crate) async fn of_writers_at_once_that_expect_one_version_one_wins(backing: Backing) {
    let room = Room::new(&backing).await;
    let nodes = [room.scene.clone(), Scene { store: backing.open().await, ..room.scene.clone() }];
    for round in 0..10 {
        let version = room.version("turn").await;
        let taking = (0..6).map(|writer| {
            let scene = nodes[writer % 2].clone();
            let turn = room.saying(&format!("{round}"), vec![expecting(put("turn", &writer.to_string()), version)]);
            tokio::spawn(async move { scene.commit(&turn).await })
        });
        let outcomes = join_all(taking.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        let won = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Done(_))).count();
        let lost = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::KvConflict)).count();
        assert_eq!((won, lost), (1, 5), "{outcomes:?}");
    }
    assert_eq!(room.said().await.len(), 10, "the message of each who won, and no other");

    let counting = (0..6).map(|writer| {
        let (scene, channel, alice) = (nodes[writer % 2].clone(), room.channel, room.alice.clone());
        tokio::spawn(async move {
            let mut conflicts = 0;
            for _ in 0..10 {
                loop {
                    let read = scene.store.kv_get(&scene.tenant, &plugin("poll"), "count", START).await.unwrap();
                    let (count, version) = read.map_or((0, 0), |entry| {
                        (String::from_utf8(entry.value).unwrap().parse::<u32>().unwrap(), entry.version)
                    });
                    let write = expecting(put("count", &(count + 1).to_string()), version);
                    let commit = Commit { kv: Some((plugin("poll"), vec![write])), ..scene.nothing(channel, &alice) };
                    match scene.commit(&commit).await {
                        Outcome::Done(_) => break,
                        Outcome::KvConflict => conflicts += 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
            conflicts
        })
    });
    let conflicts: u32 = join_all(counting.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).sum();
    println!("60 increments by 6 writers at once, with {conflicts} conflicts");
    assert_eq!(room.value("count").await.as_deref(), Some("60"));
}

/// Each round two stores commit the same plugins, messages and channels in opposite orders, as two nodes do.
pub(crate) async fn batches_of_changes_in_opposite_orders_do_not_block_each_other(backing: Backing) {
    let scene = Scene::new(&backing).await;
    let nodes = [scene.clone(), Scene { store: backing.open().await, ..scene.clone() }];
    let alice = scene.member("alice").await;
    let mut channels = Vec::new();
    for number in 0..6 {
        let channel = scene.channel(&[&alice]).await;
        let name: PluginName = plugin(&format!("plugin-{number}"));
        channels.push((channel, scene.say(channel, &alice, "0").await.id, name));
    }
    for round in 0..12 {
        let batches = nodes.iter().enumerate().map(|(node, scene)| {
            let changes = channels.iter().map(|(channel, first, name)| Commit {
                kv: Some((name.clone(), vec![put("k", "v"), put(&format!("{node} {round}"), "v")])),
                amendments: vec![amending(*first, Some(&format!("{round}")))],
                ..keyed(scene.saying(*channel, &alice, "x"), &format!("{channel} {node} {round}"), 1)
            });
            // Some that only say something, which go the short way and take the channels alone.
            let plain = channels.iter().map(|(channel, ..)| scene.saying(*channel, &alice, "y"));
            let mut batch: Vec<Commit> = if round % 3 == node { plain.collect() } else { changes.collect() };
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
    for (channel, ..) in channels {
        assert_eq!(scene.seq(channel).await, 25);
    }
}
