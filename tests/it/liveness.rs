//! What the clock does to a live socket: pings that nobody answers, and a token that ends. In real time, with settings
//! that make it short; what they are unless set is tested beside them (`config/tests.rs`).

use std::time::Duration;

use futures_util::future::{Either, join, select};
use serde_json::json;
use switchboard_tests::raw::{PONG, RawSocket, TEXT};
use switchboard_tests::tokens::Claims;
use switchboard_tests::{App, Closed, Member, Settings, Socket, Tenant, eventually};
use tokio::time::{Instant, interval};

/// From one ping of the broker to the next.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long it waits for the pong: long enough for a client on a busy machine.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a live socket has for a new token: long enough for those who do all there is to do before it ends.
const GRACE: Duration = Duration::from_secs(6);

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let settings = Settings::embedded()
        .with("SWITCHBOARD_PING_INTERVAL", &seconds(PING_INTERVAL))
        .with("SWITCHBOARD_PONG_TIMEOUT", &seconds(PONG_TIMEOUT));
    let app = App::start(settings).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let path = format!("/ws/chat/{}/?token={}", lobby.id, alice.token);
    let open = async || {
        let mut socket = RawSocket::open(app.door().address(), &path).await;
        socket.text_with("channel.state").await;
        socket
    };
    // The one that answers comes first: when the others' time is up, its own would have been.
    let (mut answering, opened) = (open().await, Instant::now());
    let (mut silent, mut talking) = (open().await, open().await);

    let mut answers = 0;
    let answer = async {
        loop {
            let payload = answering.ping().await;
            answering.send(PONG, &payload).await;
            answers += 1;
        }
    };
    let silence = async { (silent.expect_close().await, opened.elapsed()) };
    let talk = async {
        let mut pace = interval(Duration::from_millis(500));
        loop {
            pace.tick().await;
            talking.send(TEXT, br#"{"type":"ping"}"#).await;
            if let Err(closed) = talking.text_or_close("pong").await {
                return closed;
            }
        }
    };
    let others = std::pin::pin!(join(silence, talk));
    // The one that answers does so for ever.
    let Either::Left((((closed, after), talkers), _)) = select(others, std::pin::pin!(answer)).await;
    println!("no pong: closed {} after {after:.1?}, while another answered {answers} pings", closed.code);
    let expected = Closed { code: 4201, reason: "no pong".to_owned() };
    assert_eq!(closed, expected);
    assert_eq!(talkers, expected, "talking is no pong");
    // The broker's clock began before ours.
    assert!(after >= (PING_INTERVAL + PONG_TIMEOUT).mul_f64(0.9), "{after:?}");
    answering.send(TEXT, br#"{"type":"ping","id":"alive"}"#).await;
    answering.text_with(r#""id":"alive""#).await;
}

#[tokio::test]
async fn a_token_that_ends_leaves_a_live_socket_some_time_for_the_next() {
    let app = App::start(Settings::embedded().with("SWITCHBOARD_TOKEN_GRACE", &seconds(GRACE))).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let token = Claims::access(&acme.slug, alice.id.as_str()).ending_in(4).sign();
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

    let closed = forgetful.expect_close().await;
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

/// A broker that waits for the client to hang up waits for two seconds of its clock each time, so the quickest of several
/// tells, however busy the machine is.
#[tokio::test]
async fn a_client_that_closes_is_answered_and_the_broker_hangs_up() {
    const SOCKETS: usize = 5;
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let mut times = Vec::new();
    for _ in 0..SOCKETS {
        let socket = alice.connect().await;
        let begun = Instant::now();
        socket.leave().await;
        times.push(begun.elapsed());
    }
    println!("sockets ended within {times:?}");
    assert!(times.iter().min() < Some(&Duration::from_secs(1)), "{times:?}");
}
