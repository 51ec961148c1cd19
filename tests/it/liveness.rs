//! What the clock does to a live socket: pings that nobody answers, and a token that ends. In real time, so these tests
//! take half a minute each, most of it waiting beside the others.

use std::time::Duration;

use futures_util::future::join3;
use serde_json::json;
use switchboard_tests::raw::{PONG, RawSocket, TEXT};
use switchboard_tests::tokens::Claims;
use switchboard_tests::{App, Closed, Member, Socket, Tenant, eventually};
use tokio::time::{Instant, interval};

/// Longer than any wait of the broker's here by so much that a busy machine does not matter.
const PATIENCE: Duration = Duration::from_secs(60);

/// The broker pings after 25 seconds and waits 10 for the pong.
const SILENCE: Duration = Duration::from_secs(35);

/// How long a live socket has for a new token.
const GRACE: Duration = Duration::from_secs(25);

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let path = format!("/ws/chat/{}/?token={}", lobby.id, alice.token);
    let open = async || {
        let mut socket = RawSocket::open(app.door().address(), &path).await;
        socket.text_with("channel.state").await;
        socket
    };
    // The one that answers comes first, so that its time is up before the others'.
    let (mut answering, opened) = (open().await, Instant::now());
    let (mut silent, mut talking) = (open().await, open().await);

    let ((), (closed, after), talkers) = join3(
        async {
            let payload = answering.ping_within(PATIENCE).await;
            answering.send(PONG, &payload).await;
        },
        async { (silent.close_within(PATIENCE).await, opened.elapsed()) },
        async {
            let mut pace = interval(Duration::from_secs(1));
            loop {
                pace.tick().await;
                talking.send(TEXT, br#"{"type":"ping"}"#).await;
                if let Err(closed) = talking.text_or_close("pong").await {
                    return closed;
                }
            }
        },
    )
    .await;
    println!("no pong: closed {} after {after:.1?}", closed.code);
    let expected = Closed { code: 4201, reason: "no pong".to_owned() };
    assert_eq!(closed, expected);
    assert_eq!(talkers, expected, "talking is no pong");
    assert!(after >= SILENCE - Duration::from_secs(1), "{after:?}");
    answering.send(TEXT, br#"{"type":"ping","id":"alive"}"#).await;
    answering.text_with(r#""id":"alive""#).await;
}

#[tokio::test]
async fn a_token_that_ends_leaves_a_live_socket_25_seconds_for_the_next() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let token = Claims::access(&acme.slug, alice.id.as_str()).ending_in(2).sign();
    let opened = Instant::now();
    let path = format!("/ws/?token={token}");
    let mut forgetful = RawSocket::open(app.door().address(), &path).await;
    forgetful.text_with("welcome").await;
    let brief = Member::external(app.door(), "alice", &alice.id, token);
    let (mut early, mut late) = (brief.connect().await, brief.connect().await);

    refresh(&mut early, &fresh(&acme, &alice)).await;
    eventually("the token has ended", async || brief.get("/api/me/").await.0 == 401).await;
    let ended = opened.elapsed();
    // It opens nothing any more, neither a door nor, as a new token, the socket that came in with it.
    assert_eq!(RawSocket::open(app.door().address(), &path).await.expect_close().await.code, 4000);
    let error = late.refused(json!({"type": "auth.refresh", "token": brief.token})).await;
    assert_eq!(error["code"], 101, "{error}");
    refresh(&mut late, &fresh(&acme, &alice)).await;

    let closed = forgetful.close_within(PATIENCE).await;
    let after = opened.elapsed();
    println!("the token ended within {ended:.1?} and the socket after {after:.1?}, with {}", closed.code);
    assert_eq!(closed, Closed { code: 4001, reason: "token expired".to_owned() });
    assert!(after >= GRACE, "{after:?}");
    for socket in [&mut early, &mut late] {
        socket.acked(json!({"type": "ping"})).await;
    }
}

#[tokio::test]
async fn a_refresh_with_the_token_of_anyone_else_closes_the_socket() {
    let app = App::embedded().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let namesake = Claims::access(&other.slug, alice.id.as_str()).sign();
    for (whose, token) in [("another member's", &bob.token), ("another tenant's", &namesake)] {
        for mut socket in [alice.connect().await, alice.join(&lobby).await] {
            socket.send_json(json!({"type": "auth.refresh", "id": "r1", "token": token})).await;
            let (frames, closed) = socket.until_closed().await;
            assert_eq!(closed, Closed { code: 4003, reason: "forbidden".to_owned() }, "{whose}");
            assert!(frames.iter().all(|frame| frame["id"] != "r1"), "{whose}: {frames:?}");
        }
    }
}

fn fresh(tenant: &Tenant, member: &Member) -> String {
    Claims::access(&tenant.slug, member.id.as_str()).sign()
}

async fn refresh(socket: &mut Socket, token: &str) {
    socket.acked(json!({"type": "auth.refresh", "token": token})).await;
}

/// The bound is far from both what it should take and what a broker that waits for the client to hang up would need.
#[tokio::test]
async fn a_client_that_closes_is_answered_and_the_broker_hangs_up() {
    const SOCKETS: usize = 20;
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let closing = async {
        for _ in 0..SOCKETS {
            alice.connect().await.leave().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(SOCKETS as u64), closing).await.expect("each socket ends soon");
}
