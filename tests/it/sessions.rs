//! One socket for many channels.

use serde_json::json;
use switchboard_tests::{App, Channel, Database, Settings, eventually, list, number};

#[tokio::test]
async fn the_welcome_says_who_and_for_how_long() {
    let app = App::start(Settings::embedded().without("SWITCHBOARD_ACCESS_TTL")).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let welcome = alice.connect().await.greeting;
    assert_eq!(welcome["user"], alice.as_json());
    assert_eq!((number(&welcome, "ping"), number(&welcome, "max_bytes")), (25, 65_536));
    assert!((1..=300).contains(&number(&welcome, "ttl")), "{welcome}");
}

#[tokio::test]
async fn one_socket_is_in_two_channels_and_keeps_them_apart() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let attic = acme.channel("attic", &[&alice, &bob]).await;
    let mut a = alice.connect().await;
    a.subscribe(&lobby).await;
    a.subscribe(&attic).await;
    let (mut below, mut above) = (bob.join(&lobby).await, bob.join(&attic).await);

    assert_eq!(a.say_in(&lobby, "down").await["seq"], 1);
    assert_eq!(a.say_in(&attic, "up").await["seq"], 1, "each channel counts for itself");
    assert_eq!(below.next_of("chat.message").await["message"]["content"], "down");
    assert_eq!(above.next_of("chat.message").await["message"]["content"], "up");
    below.expect_silence("chat.message").await;
    above.expect_silence("chat.message").await;

    for (channel, content) in [(&lobby, "down"), (&attic, "up")] {
        let echo = a.next_where(content, |f| f["type"] == "chat.message" && f["channel"] == channel.id.as_str()).await;
        assert_eq!(echo["message"]["content"], content);
    }
}

#[tokio::test]
async fn subscribing_brings_the_state_and_an_ack_when_asked_for() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    alice.join(&lobby).await.say("earlier").await;

    let mut a = alice.connect().await;
    a.acked(json!({"type": "subscribe", "channel": lobby.id, "id": "s1"})).await;
    let state = a.next_of("channel.state").await;
    assert_eq!(list(&state, "messages")[0]["content"], "earlier");
    let subscribed = a.next_of("subscribed").await;
    assert_eq!((&subscribed["seq"], &subscribed["epoch"]), (&json!(1), &state["epoch"]));
    assert_eq!(subscribed["recovered"], false, "nothing was asked to be recovered");
}

#[tokio::test]
async fn after_unsubscribing_nothing_of_the_channel_comes() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut a = alice.connect().await;
    a.subscribe(&lobby).await;
    let mut b = bob.join(&lobby).await;

    a.acked(json!({"type": "unsubscribe", "channel": lobby.id, "id": "u1"})).await;
    assert_eq!(b.next_of("user.leave").await["user"], alice.as_json());
    a.forget().await;
    b.say("is she gone?").await;
    b.acked(json!({"type": "typing", "is_typing": true})).await;
    a.expect_silence("chat.message").await;
    a.expect_silence("typing").await;

    a.subscribe(&lobby).await;
    b.say("she is back").await;
    assert_eq!(a.next_of("chat.message").await["seq"], 2, "what was missed is in the state, not sent as news");
}

#[tokio::test]
async fn a_frame_without_a_channel_or_for_one_not_joined_is_refused() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut a = alice.connect().await;
    let error = a.refused(json!({"type": "chat.message", "message": "where?"})).await;
    assert_eq!(error["code"], 107, "{error}");
    for channel in [json!(lobby.id), json!(Channel::missing().id), json!("lobby")] {
        let error = a.refused(json!({"type": "chat.message", "channel": channel, "message": "there"})).await;
        assert_eq!(error["code"], 102, "{channel}: {error}");
    }
    for channel in [json!(Channel::missing().id), json!("lobby")] {
        let error = a.refused(json!({"type": "subscribe", "channel": channel})).await;
        assert_eq!(error["code"], 102, "{channel}: {error}");
    }
}

#[tokio::test]
async fn a_ping_frame_is_answered() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    for mut socket in [alice.connect().await, alice.join(&lobby).await] {
        socket.forget().await;
        socket.send_json(json!({"type": "ping"})).await;
        assert_eq!(socket.next().await, json!({"type": "pong"}));
        socket.acked(json!({"type": "ping", "id": "p1"})).await;
    }
}

#[tokio::test]
async fn subscribing_again_brings_the_state_again_and_is_no_news_to_others() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let mut b = bob.join(&lobby).await;
    let mut a = alice.connect().await;
    a.subscribe(&lobby).await;
    b.next_of("user.join").await;
    a.say_in(&lobby, "once").await;
    a.forget().await;

    a.acked(json!({"type": "subscribe", "channel": lobby.id, "id": "again"})).await;
    assert_eq!(list(&a.next_of("channel.state").await, "messages").len(), 1);
    b.expect_silence("user.leave").await;
    b.expect_silence("user.join").await;
    b.say("still one of each").await;
    assert_eq!(a.next_of("chat.message").await["seq"], 2);
    a.expect_silence("chat.message").await;
}

#[tokio::test]
async fn a_socket_too_many_is_turned_away_and_a_place_that_is_free_again_is_taken() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_MAX_CONNECTIONS", "1")).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut first = alice.join(&lobby).await;
    assert_eq!(alice.knock(&lobby).await.expect_close().await.code, 4100);
    first.say("the first one does not notice").await;
    first.leave().await;
    eventually("the place is free", async || alice.knock(&lobby).await.is_greeted().await).await;
}

#[tokio::test]
async fn a_channel_that_postgres_holds_up_delays_neither_pings_nor_other_channels() {
    let database = Database::create().await;
    let app = App::start(Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &database.url())).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let (stuck, free) = (acme.channel("stuck", &[&alice]).await, acme.channel("free", &[&alice]).await);
    let mut socket = alice.connect().await;
    socket.subscribe(&stuck).await;
    socket.subscribe(&free).await;

    let (mut client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let holding = client.transaction().await.unwrap();
    let lock = format!("SELECT FROM \"tenant_{}\".chat_channel WHERE id::text = '{}' FOR UPDATE", acme.slug, stuck.id);
    holding.batch_execute(&lock).await.unwrap();

    let held_up = json!({"type": "chat.message", "channel": stuck.id, "id": "held up", "message": "first"});
    socket.send_json(held_up.clone()).await;
    for n in 1..=20 {
        assert_eq!(socket.say_in(&free, "on we go").await["seq"], n);
    }
    socket.acked(json!({"type": "ping"})).await;
    socket.expect_none("an ack from the channel that is held up", |f| f["id"] == "held up" && f["type"] == "ack").await;
    holding.rollback().await.unwrap();
    let answer = socket.next_where("the answer to what was held up", |frame| frame["id"] == "held up").await;
    if answer["type"] == "error" {
        // On a machine so busy that the lock outlasted the broker's patience.
        assert_eq!((&answer["code"], &answer["retryable"]), (&json!(108), &json!(true)));
    }
    assert_eq!(socket.acked(held_up).await["seq"], 1, "stored once");
}

#[tokio::test]
async fn frames_of_one_channel_wait_for_postgres_in_order_and_no_more_than_fit() {
    let database = Database::create().await;
    let app = App::start(Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &database.url())).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut socket = alice.connect().await;
    socket.subscribe(&lobby).await;

    let (mut client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let holding = client.transaction().await.unwrap();
    let lock = format!("SELECT FROM \"tenant_{}\".chat_channel WHERE id::text = '{}' FOR UPDATE", acme.slug, lobby.id);
    holding.batch_execute(&lock).await.unwrap();
    // 96 are on their way; the others are told to try again, and nobody waits for anything.
    let say =
        |n: u64| json!({"type": "chat.message", "channel": lobby.id, "id": format!("{n}"), "message": n.to_string()});
    socket.send_json(say(1)).await;
    let (watcher, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the first one waits for the row", async || {
        watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    for n in 2..=100 {
        socket.send_json(say(n)).await;
    }
    for n in 97..=100 {
        let error = socket.next_of("error").await;
        assert_eq!(
            (&error["id"], &error["code"], &error["retryable"]),
            (&json!(n.to_string()), &json!(205), &json!(true))
        );
    }
    socket.expect_silence("ack").await;
    holding.rollback().await.unwrap();
    for n in 1..=96 {
        let ack = socket.next_of("ack").await;
        assert_eq!((&ack["id"], &ack["seq"]), (&json!(n.to_string()), &json!(n)), "in the order they were sent");
    }
}
