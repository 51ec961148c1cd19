//! Two nodes are one broker.

use crate::redis_server::{PrivateRedis, ask, until};
use futures_util::future::join;
use serde_json::{Value, json};
use switchboard::bus::Bus;
use switchboard::bus::redis::{BusKeys, RedisBus};
use switchboard::model::{ChannelKey, Clock};
use switchboard_tests::tokens::SECRET;
use switchboard_tests::{Channel, Cluster, Member, Signal, Socket, list, number, text};

struct TwoNodes {
    cluster: Cluster,
    alice: Member,
    bob: Member,
    lobby: Channel,
}

impl TwoNodes {
    /// Alice connects to one node, Bob to the other.
    async fn open() -> Self {
        Self::on(Cluster::two_nodes().await).await
    }

    async fn on(cluster: Cluster) -> Self {
        let acme = cluster.tenant("acme").await;
        let alice = acme.member("alice").await;
        let bob = acme.member("bob").await.at(cluster.b.door());
        let lobby = acme.channel("lobby", &[&alice, &bob]).await;
        Self { cluster, alice, bob, lobby }
    }
}

#[tokio::test]
async fn every_built_in_type_crosses_nodes() {
    let TwoNodes { cluster: _cluster, alice, bob, lobby } = TwoNodes::open().await;
    let mut a = alice.join(&lobby).await;
    let mut b = bob.join(&lobby).await;
    let of_bob = |kind: &'static str| {
        let bob = bob.as_json();
        move |frame: &Value| frame["type"] == kind && frame["user"] == bob
    };
    a.next_where("bob joins", of_bob("user.join")).await;

    let ack = a.say("over there?").await;
    let heard = b.next_of("chat.message").await;
    assert_eq!((&heard["message"]["id"], &heard["seq"]), (&ack["message_id"], &json!(1)));
    assert_eq!(b.say("over here").await["seq"], 2);
    a.next_where("bob's message", |frame| frame["message"]["sender"] == bob.as_json()).await;

    b.send_json(json!({"type": "typing", "is_typing": true})).await;
    a.next_where("bob types", of_bob("typing")).await;
    b.expect_silence("typing").await;

    b.acked(json!({"type": "message.read", "message_id": ack["message_id"]})).await;
    let read = a.next_where("bob has read", of_bob("message.read")).await;
    assert_eq!(read["message_id"], ack["message_id"]);

    b.leave().await;
    a.next_where("bob leaves", of_bob("user.leave")).await;
}

#[tokio::test]
async fn presence_is_that_of_all_nodes() {
    let TwoNodes { cluster, alice, bob, lobby } = TwoNodes::open().await;
    let mut a = alice.join(&lobby).await;
    let here = bob.join(&lobby).await;
    a.next_where("bob joins", |frame| frame["type"] == "user.join" && frame["user"] == bob.as_json()).await;
    let there = bob.at(cluster.a.door()).join(&lobby).await;
    for member in [&alice, &bob] {
        let (status, present) = member.get(&lobby.path("presence/")).await;
        assert_eq!(status, 200, "{present}");
        assert_eq!(list(&present, "results").len(), 2, "each member once: {present}");
    }

    here.leave().await;
    a.say("is he gone?").await;
    a.expect_silence("user.leave").await;
    there.leave().await;
    a.next_of("user.leave").await;
}

#[tokio::test]
async fn senders_on_both_nodes_are_heard_in_one_order() {
    const EACH: u64 = 40;
    let TwoNodes { cluster: _cluster, alice, bob, lobby } = TwoNodes::open().await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);

    let (acked_a, acked_b) = join(say_many(&mut a, EACH), say_many(&mut b, EACH)).await;
    let mut acked: Vec<(u64, String)> = acked_a.into_iter().chain(acked_b).collect();
    acked.sort_unstable();

    let (heard_a, heard_b) = join(hear_many(&mut a, 2 * EACH), hear_many(&mut b, 2 * EACH)).await;
    assert_eq!(heard_a, acked, "alice hears every acked message, in order, without gap or duplicate");
    assert_eq!(heard_b, acked, "and bob hears the same");
    assert_eq!(acked.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=2 * EACH).collect::<Vec<_>>());
}

async fn say_many(socket: &mut Socket, count: u64) -> Vec<(u64, String)> {
    let mut acked = Vec::new();
    for n in 0..count {
        let ack = socket.say(&format!("message {n}")).await;
        acked.push((number(&ack, "seq"), text(&ack, "message_id").to_owned()));
    }
    acked
}

async fn hear_many(socket: &mut Socket, count: u64) -> Vec<(u64, String)> {
    let mut heard = Vec::new();
    for _ in 0..count {
        let frame = socket.next_of("chat.message").await;
        heard.push((number(&frame, "seq"), text(&frame["message"], "id").to_owned()));
    }
    socket.expect_silence("chat.message").await;
    heard
}

#[tokio::test]
async fn a_message_posted_over_http_on_one_node_is_heard_on_the_other() {
    let TwoNodes { cluster: _cluster, alice, bob, lobby } = TwoNodes::open().await;
    let mut b = bob.join(&lobby).await;
    let (status, answer) = alice.post(&lobby.path("messages/"), json!({"message": "by post"})).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(b.next_of("chat.message").await["message"]["content"], "by post");
}

#[tokio::test]
async fn a_member_removed_on_one_node_hears_nothing_more_on_the_other() {
    let TwoNodes { cluster, alice, bob, lobby } = TwoNodes::open().await;
    let (status, mine) = alice.post("/api/channels/", json!({"name": "mine", "members": [bob.id]})).await;
    assert_eq!(status, 201, "{mine}");
    let mine = Channel { id: text(&mine, "id").to_owned(), name: "mine".to_owned() };
    let mut b = bob.connect().await;
    b.subscribe(&lobby).await;
    b.subscribe(&mine).await;
    let mut a = alice.at(cluster.a.door()).connect().await;
    a.subscribe(&mine).await;
    a.subscribe(&lobby).await;

    let (status, _) = alice.delete(&mine.path(&format!("members/{}/", bob.id))).await;
    assert_eq!(status, 204);
    // The other node is told over the bus; from the moment it knows, which alice sees, nothing more is sent.
    a.next_where("bob leaves", |frame| frame["type"] == "user.leave" && frame["channel"] == mine.id.as_str()).await;
    b.forget().await;
    a.say_in(&mine, "between us").await;
    a.say_in(&lobby, "for all").await;
    b.next_where("what is for all", |frame| frame["message"]["content"] == "for all").await;
    b.expect_none("what is not", |frame| frame["message"]["content"] == "between us").await;
}

#[tokio::test]
async fn one_node_goes_and_the_other_carries_on() {
    let TwoNodes { cluster, alice, bob, lobby } = TwoNodes::open().await;
    let Cluster { a: first, b: second } = cluster;
    let mut a = alice.join(&lobby).await;
    let mut b = bob.join(&lobby).await;
    a.say("before").await;
    b.next_of("chat.message").await;

    first.broker().ask_to_end(Signal::Terminate).await;
    assert_eq!(a.expect_close().await.code, 4200, "a client is told to reconnect soon");
    let mut again = alice.at(second.door()).join(&lobby).await;
    assert_eq!(again.say("after").await["seq"], 2);
    assert_eq!(b.next_of("chat.message").await["message"]["content"], "after");
    assert_eq!(first.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_member_removed_while_the_bus_is_away_is_cut_off_when_it_is_back() {
    let mut redis = PrivateRedis::start().await;
    let TwoNodes { cluster: _cluster, alice, bob, lobby } =
        TwoNodes::on(Cluster::two_nodes_on(&redis.url()).await).await;
    let mut b = bob.join(&lobby).await;
    redis.kill();
    let (status, answer) = alice.delete(&lobby.path(&format!("members/{}/", bob.id))).await;
    assert_eq!(status, 204, "{answer}");
    // The other node has not heard of it; what needs the store is refused all the same.
    let error = b.refused(json!({"type": "chat.message", "message": "still here"})).await;
    assert_eq!(error["code"], 102, "{error}");
    redis.start_again().await;
    assert_eq!(b.expect_close().await.code, 4002);
}

#[tokio::test]
async fn without_the_bus_each_node_serves_its_own_and_catches_up_afterwards() {
    let mut redis = PrivateRedis::start().await;
    let TwoNodes { cluster: _cluster, alice, bob, lobby } =
        TwoNodes::on(Cluster::two_nodes_on(&redis.url()).await).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    a.say("before").await;
    b.next_where("what was said before", |frame| frame["message"]["content"] == "before").await;
    redis.kill();
    a.say("meanwhile").await;
    b.say("likewise").await;
    redis.start_again().await;
    a.next_where("the other node's", |frame| frame["message"]["content"] == "likewise").await;
    for (expected, seq) in [("meanwhile", 2), ("likewise", 3)] {
        let said = b.next_of("chat.message").await;
        assert_eq!((&said["message"]["content"], &said["seq"]), (&json!(expected), &json!(seq)));
    }
}

#[tokio::test]
async fn a_node_is_on_the_bus_for_a_channel_from_its_first_session_to_its_last() {
    let redis = PrivateRedis::start().await;
    let TwoNodes { cluster: _cluster, alice, bob, lobby } =
        TwoNodes::on(Cluster::two_nodes_on(&redis.url()).await).await;
    let listening = async || {
        let names: Vec<String> = ask(&redis.url(), &["PUBSUB", "CHANNELS", "switchboard:ch:*"]).await;
        let Some(name) = names.first() else { return 0 };
        assert!(names.len() == 1 && name.contains("acme") && name.ends_with(&lobby.id), "{names:?}");
        let (_, nodes): (String, u64) = ask(&redis.url(), &["PUBSUB", "NUMSUB", name]).await;
        nodes
    };
    assert_eq!(listening().await, 0);
    let (first, second) = (alice.join(&lobby).await, alice.join(&lobby).await);
    assert_eq!(listening().await, 1, "once a node, not once a session");
    let other = bob.join(&lobby).await;
    assert_eq!(listening().await, 2);
    first.leave().await;
    other.leave().await;
    until("the other node has left", async || listening().await == 1).await;
    second.leave().await;
    until("nobody listens", async || listening().await == 0).await;
}

#[tokio::test]
async fn a_number_that_no_message_has_is_given_up_and_the_channel_goes_on() {
    let redis = PrivateRedis::start().await;
    let TwoNodes { cluster, alice, bob, lobby } = TwoNodes::on(Cluster::two_nodes_on(&redis.url()).await).await;
    let mut b = bob.join(&lobby).await;
    let names: Vec<String> = ask(&redis.url(), &["PUBSUB", "CHANNELS", "switchboard:ch:*"]).await;
    // A node of the same cluster, which has the secret, and a number that the store does not.
    let keys = BusKeys::new(SECRET.as_bytes(), None);
    let (wrong, _inbox) = RedisBus::connect(&redis.url(), keys, &Clock::system()).await.expect("Redis answers");
    let tenant = names[0].strip_suffix(&lobby.id).and_then(|rest| rest.strip_prefix("switchboard:ch:")).unwrap();
    let tenant = tenant.trim_end_matches(|sign: char| !sign.is_ascii_alphanumeric()).parse().unwrap();
    let channel = ChannelKey { tenant, channel: lobby.id.parse().unwrap() };
    let head = r#"{"frame":{"seq":1000000,"durable":true,"audience":"channel"}}"#;
    wrong.publish(&channel, format!("{head}\n{{\"type\":\"forged\"}}").into());

    until("the hole is given up", async || {
        !cluster.b.broker().events("gave up on a gap that the store cannot fill").is_empty()
    })
    .await;
    let (_, metrics) = switchboard_tests::Door::new(cluster.b.broker().admin_address()).get("/metrics", None).await;
    let metrics = metrics.as_str().expect("the text format");
    assert!(metrics.contains(r#"switchboard_frames_held_dropped_total{reason="never_filled"} 1"#), "{metrics}");
    alice.join(&lobby).await.say("the real one").await;
    let said = b.next_of("chat.message").await;
    assert_eq!((&said["seq"], &said["message"]["content"]), (&json!(1), &json!("the real one")));
    b.expect_silence("forged").await;
}
