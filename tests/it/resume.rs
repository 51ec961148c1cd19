//! Coming back with a position: what was missed comes in order and once, or it is said that it cannot.

use serde_json::{Value, json};
use switchboard_tests::{App, Channel, Cluster, Member, Socket, list, number, text};

/// Subscribes since a position and returns everything up to `subscribed`, which is the last.
async fn resume(socket: &mut Socket, channel: &Channel, since: Value) -> Vec<Value> {
    socket.send_json(json!({"type": "subscribe", "channel": channel.id, "since": since})).await;
    until_subscribed(socket).await
}

async fn until_subscribed(socket: &mut Socket) -> Vec<Value> {
    let mut frames = Vec::new();
    while frames.last().is_none_or(|last: &Value| last["type"] != "subscribed") {
        frames.push(socket.next().await);
    }
    frames
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| text(frame, "type")).collect()
}

fn contents(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter(|f| f["type"] == "chat.message").map(|f| text(&f["message"], "content")).collect()
}

/// The position that an ack or a `subscribed` gives, as a client sends it back.
fn position(frame: &Value) -> Value {
    json!({"epoch": frame["epoch"], "seq": frame["seq"]})
}

/// Sends many messages without waiting for each, and then waits for all acks.
async fn say_many(socket: &mut Socket, texts: impl IntoIterator<Item = String>) {
    let mut sent = 0;
    for (at, text) in texts.into_iter().enumerate() {
        socket.send_json(json!({"type": "chat.message", "id": format!("{at}-{}", text.len()), "message": text})).await;
        sent += 1;
        // No more under way than a socket may have waiting.
        if sent % 16 == 0 {
            answers(socket, 16).await;
        }
    }
    answers(socket, sent % 16).await;
}

async fn answers(socket: &mut Socket, count: usize) {
    for _ in 0..count {
        socket.next_of("ack").await;
    }
}

struct Room {
    alice: Member,
    bob: Member,
    lobby: Channel,
    said: Socket,
}

async fn room(app: &App) -> Room {
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let said = alice.join(&lobby).await;
    Room { alice, bob, lobby, said }
}

#[tokio::test]
async fn what_was_missed_comes_in_order_before_subscribed_and_nothing_else_does() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let first = room.said.say("one").await;
    for text in ["two", "three"] {
        room.said.say(text).await;
    }
    let mut back = room.bob.connect().await;
    let subscribe = json!({"type": "subscribe", "channel": room.lobby.id, "id": "s1", "since": position(&first)});
    back.send_json(subscribe).await;
    let frames = until_subscribed(&mut back).await;
    assert_eq!(kinds(&frames), ["chat.message", "chat.message", "subscribed"], "no state: the client has it");
    assert_eq!(contents(&frames), ["two", "three"]);
    let subscribed = &frames[2];
    assert_eq!((&subscribed["recovered"], &subscribed["seq"]), (&json!(true), &json!(3)));
    let ack = back.next_of("ack").await;
    assert_eq!((&ack["id"], &ack["seq"], &ack["epoch"]), (&json!("s1"), &json!(3), &first["epoch"]));

    room.said.say("four").await;
    let live = back.next_of("chat.message").await;
    assert_eq!((&live["seq"], &live["message"]["content"]), (&json!(4), &json!("four")), "and it goes on from there");
}

#[tokio::test]
async fn a_missed_message_reads_as_it_did_live() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let before = room.said.say("before").await;
    let mut live = room.bob.join(&room.lobby).await;
    room.said
        .acked(json!({"type": "chat.message", "message": {"content": "hé", "reply_to": before["message_id"]}}))
        .await;
    let seen = live.next_of("chat.message").await;
    let frames = resume(&mut room.bob.connect().await, &room.lobby, position(&before)).await;
    assert_eq!(frames[0], seen);
}

#[tokio::test]
async fn nothing_missed_is_recovered_at_once_and_everything_missed_is_too() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let mut empty = room.bob.connect().await;
    let joined = empty.subscribe(&room.lobby).await;
    let frames = resume(&mut room.bob.connect().await, &room.lobby, position(&joined)).await;
    assert_eq!((kinds(&frames), &frames[0]["recovered"]), (vec!["subscribed"], &json!(true)), "an empty channel");

    let last = room.said.say("one").await;
    let frames = resume(&mut room.bob.connect().await, &room.lobby, position(&last)).await;
    assert_eq!((kinds(&frames), &frames[0]["recovered"]), (vec!["subscribed"], &json!(true)));
    let frames = resume(&mut room.bob.connect().await, &room.lobby, position(&joined)).await;
    assert_eq!((contents(&frames), &frames[1]["recovered"]), (vec!["one"], &json!(true)), "from 0 on");
}

#[tokio::test]
async fn any_node_recovers() {
    let cluster = Cluster::two_nodes().await;
    let mut room = room(&cluster.a).await;
    let first = room.said.say("one").await;
    room.said.say("two").await;
    let frames = resume(&mut room.bob.at(cluster.b.door()).connect().await, &room.lobby, position(&first)).await;
    assert_eq!((contents(&frames), &frames[1]["recovered"]), (vec!["two"], &json!(true)));
}

#[tokio::test]
async fn a_socket_for_one_channel_resumes_by_its_url() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let first = room.said.say("one").await;
    room.said.say("two").await;
    let since = format!("{}:{}", text(&first, "epoch"), first["seq"]);
    let mut back = room.bob.knock_with(&room.lobby, &[("since", &since)]).await;
    let frames = until_subscribed(&mut back).await;
    assert_eq!(kinds(&frames), ["chat.message", "subscribed"]);
    assert_eq!((contents(&frames), &frames[1]["recovered"]), (vec!["two"], &json!(true)));
    room.said.say("three").await;
    assert_eq!(back.next_of("chat.message").await["seq"], 3);
}

#[tokio::test]
async fn a_position_that_leads_nowhere_is_said_and_the_state_comes_instead() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let first = room.said.say("one").await;
    let epoch = text(&first, "epoch");
    for (name, since) in [
        ("another numbering", json!({"epoch": "e0", "seq": 1})),
        ("an empty name of one", json!({"epoch": "", "seq": 1})),
        ("beyond the end", json!({"epoch": epoch, "seq": 2})),
        ("far beyond the end", json!({"epoch": epoch, "seq": u64::MAX})),
    ] {
        let mut back = room.bob.connect().await;
        let frames = resume(&mut back, &room.lobby, since).await;
        let kinds = kinds(&frames);
        assert_eq!(kinds, ["error", "channel.state", "subscribed"], "{name}");
        let (error, state, subscribed) = (&frames[0], &frames[1], &frames[2]);
        assert_eq!((&error["code"], &error["name"]), (&json!(112), &json!("unrecoverable_position")), "{name}");
        assert_eq!((&error["channel"], error.get("id")), (&json!(room.lobby.id), None), "{name}");
        assert_eq!(subscribed["recovered"], false, "{name}");
        assert_eq!(list(state, "messages").len(), 1, "{name}");
        back.acked(json!({"type": "typing", "channel": room.lobby.id, "is_typing": true})).await;
        back.leave().await;
    }
    // The same on a socket for one channel.
    let mut back = room.bob.knock_with(&room.lobby, &[("since", "e0:1")]).await;
    let frames = until_subscribed(&mut back).await;
    assert_eq!(kinds(&frames), ["error", "channel.state", "subscribed"]);
    assert_eq!((&frames[0]["code"], &frames[2]["recovered"]), (&json!(112), &json!(false)));
}

#[tokio::test]
async fn a_position_that_does_not_read_is_a_bad_request() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let first = room.said.say("one").await;
    let epoch = text(&first, "epoch");
    let mut back = room.bob.connect().await;
    for since in [
        json!({"epoch": epoch, "seq": -1}),
        json!({"epoch": epoch, "seq": "1"}),
        json!({"epoch": epoch, "seq": 0.5}),
        json!({"epoch": epoch}),
        json!({"epoch": 1, "seq": 1}),
        json!("1"),
        json!(1),
        json!([epoch, 1]),
    ] {
        let error = back.refused(json!({"type": "subscribe", "channel": room.lobby.id, "since": since.clone()})).await;
        assert_eq!(error["code"], 107, "{since}: {error}");
    }
    back.expect_silence("channel.state").await;
    back.expect_silence("subscribed").await;
    assert_eq!(resume(&mut back, &room.lobby, position(&first)).await[0]["recovered"], true, "the socket is alive");

    for since in ["", "1", "x:-1", "x:one", ":1"] {
        let mut back = room.bob.knock_with(&room.lobby, &[("since", since)]).await;
        let frames = until_subscribed(&mut back).await;
        assert_eq!(kinds(&frames), ["error", "channel.state", "subscribed"], "{since}");
        assert_eq!((&frames[0]["code"], &frames[2]["recovered"]), (&json!(107), &json!(false)), "{since}");
    }
}

#[tokio::test]
async fn a_thousand_missed_messages_come_and_one_more_does_not() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let start = room.bob.connect().await.subscribe(&room.lobby).await;
    say_many(&mut room.said, (0..1_000).map(|n| n.to_string())).await;
    let frames = resume(&mut room.bob.connect().await, &room.lobby, position(&start)).await;
    let seqs: Vec<u64> = frames[..1_000].iter().map(|frame| number(frame, "seq")).collect();
    assert_eq!(seqs, (1..=1_000).collect::<Vec<u64>>());
    assert_eq!((frames.len(), &frames[1_000]["recovered"]), (1_001, &json!(true)));

    room.said.say("one too many").await;
    let frames = resume(&mut room.bob.connect().await, &room.lobby, position(&start)).await;
    assert_eq!(kinds(&frames), ["error", "channel.state", "subscribed"]);
    assert_eq!((&frames[0]["code"], &frames[2]["recovered"]), (&json!(112), &json!(false)));
}

#[tokio::test]
async fn more_than_the_outbound_queue_holds_can_be_missed() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let start = room.bob.connect().await.subscribe(&room.lobby).await;
    // 200 messages of 8,000 characters and 24,000 bytes: 4.8 MB, and 1 MiB may wait.
    say_many(&mut room.said, (0..200).map(|n| format!("{n:04}{}", "√".repeat(7_996)))).await;
    let mut back = room.bob.connect().await;
    let frames = resume(&mut back, &room.lobby, position(&start)).await;
    assert_eq!((contents(&frames).len(), &frames[200]["recovered"]), (200, &json!(true)));
    for (at, content) in contents(&frames).into_iter().enumerate() {
        assert!(content.starts_with(&format!("{at:04}")), "message {at}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_to_a_node_while_others_talk_misses_nothing_and_hears_nothing_twice() {
    for app in [App::embedded().await, App::postgres().await] {
        let mut room = room(&app).await;
        let mut at = position(&room.bob.connect().await.subscribe(&room.lobby).await);
        let talking = tokio::spawn(async move {
            for n in 1..=300 {
                room.said.say(&n.to_string()).await;
            }
        });
        let (mut heard, mut resumes) = (Vec::new(), 0);
        while heard.last() != Some(&300) {
            let mut back = room.bob.connect().await;
            let frames = resume(&mut back, &room.lobby, at.clone()).await;
            assert_eq!(frames.last().expect("subscribed")["recovered"], true);
            heard.extend(frames.iter().filter(|f| f["type"] == "chat.message").map(|frame| number(frame, "seq")));
            // Some live ones as well, while there are any to come.
            for _ in 0..3 {
                if heard.last() != Some(&300) {
                    heard.push(number(&back.next_of("chat.message").await, "seq"));
                }
            }
            at["seq"] = json!(heard.last().expect("something was said"));
            resumes += 1;
        }
        talking.await.expect("alice had her say");
        assert_eq!(heard, (1..=300).collect::<Vec<u64>>());
        println!("300 messages in order over {resumes} connections");
    }
}

#[tokio::test]
async fn coming_back_shows_only_what_the_member_may_see() {
    let app = App::embedded().await;
    let mut room = room(&app).await;
    let first = room.said.say("one").await;
    room.said.say("two").await;
    let outsider = app.tenant("umbrella").await.member("mallory").await;
    let mut socket = outsider.connect().await;
    let request = json!({"type": "subscribe", "channel": room.lobby.id, "since": position(&first)});
    assert_eq!(socket.refused(request).await["code"], 102);

    // Nor what was said after a member was taken out.
    assert_eq!(room.alice.delete(&room.lobby.path(&format!("members/{}/", room.bob.id))).await.0, 204);
    let mut socket = room.bob.connect().await;
    let request = json!({"type": "subscribe", "channel": room.lobby.id, "since": position(&first)});
    assert_eq!(socket.refused(request).await["code"], 102);
    socket.expect_silence("chat.message").await;
}
