//! Nobody takes more than a share: of frames, joins, log-ins, channels and bytes.

use serde_json::json;
use switchboard_tests::{App, Settings, number};

const SMALL: [(&str, &str); 5] = [
    ("SWITCHBOARD_RATE_FRAMES", "member=1/m:20"),
    ("SWITCHBOARD_RATE_JOINS", "member=1/m:5"),
    ("SWITCHBOARD_RATE_LOG_INS", "address=1/m:3"),
    ("SWITCHBOARD_RATE_CHANNELS", "member=1/m:4"),
    ("SWITCHBOARD_RATE_BODY_BYTES", "member=1/m:2000"),
];

async fn limited(subject: usize) -> App {
    let (name, value) = SMALL[subject];
    App::start(Settings::embedded().with(name, value)).await
}

async fn counted(app: &App, of: &str, scope: &str) -> f64 {
    let labels = [format!("of=\"{of}\""), format!("scope=\"{scope}\"")];
    app.broker().metric("switchboard_rate_limited_total", &[&labels[0], &labels[1]]).await
}

#[tokio::test]
async fn a_member_who_sends_too_many_frames_is_told_when_to_go_on_and_others_go_on() {
    let app = limited(0).await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut one, mut two) = (alice.join(&lobby).await, alice.join(&lobby).await);
    let mut b = bob.join(&lobby).await;
    // Both sockets of the member have one limit.
    for n in 1..=20 {
        let socket = if n % 2 == 0 { &mut one } else { &mut two };
        assert_eq!(socket.say("x").await["seq"], n);
    }
    for socket in [&mut one, &mut two] {
        let error = socket.refused(json!({"type": "chat.message", "message": "one more"})).await;
        assert_eq!((&error["code"], &error["retryable"]), (&json!(111), &json!(true)), "{error}");
        let after = number(&error, "retry_after_ms");
        assert!((1..=60_000).contains(&after), "{after}");
    }
    assert_eq!(b.say("still here").await["seq"], 21, "nothing of what was refused is stored");
    assert!(counted(&app, "frames", "member").await >= 2.0);
    // A new socket has no new limit.
    let mut three = alice.join(&lobby).await;
    assert_eq!(three.refused(json!({"type": "chat.message", "message": "again"})).await["code"], 111);
}

#[tokio::test]
async fn a_member_who_joins_too_often_is_refused_and_a_socket_for_one_channel_closes() {
    let app = limited(1).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let mut socket = alice.connect().await;
    for _ in 0..5 {
        socket.subscribe(&lobby).await;
    }
    let error = socket.refused(json!({"type": "subscribe", "channel": lobby.id})).await;
    assert_eq!(error["code"], 111, "{error}");
    let (frames, closed) = alice.knock(&lobby).await.until_closed().await;
    assert_eq!((frames.len(), &frames[0]["code"], closed.code), (1, &json!(111), 4101));
}

#[tokio::test]
async fn too_many_log_ins_from_an_address_are_refused_with_the_time_to_wait() {
    let app = limited(2).await;
    let acme = app.tenant("acme").await;
    acme.member_with_password("alice", "correct horse battery").await;
    for n in 0..3 {
        assert_eq!(app.door().try_to_log_in(&acme.slug, &format!("x{n}"), "no").await, (401, None));
    }
    let (status, after) = app.door().try_to_log_in(&acme.slug, "alice", "correct horse battery").await;
    assert!(status == 429 && after.is_some_and(|after| (1..=60).contains(&after)), "{status} {after:?}");
    assert!(counted(&app, "log_ins", "address").await >= 1.0);
}

#[tokio::test]
async fn a_member_makes_so_many_channels_and_sends_so_many_bytes() {
    let app = limited(3).await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    for _ in 0..4 {
        assert_eq!(alice.post("/api/channels/", json!({"name": "x"})).await.0, 201);
    }
    let (status, refused) = alice.post("/api/channels/", json!({"name": "x"})).await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("rate_limited")), "{refused}");
    assert_eq!(bob.post("/api/channels/", json!({"name": "x"})).await.0, 201);

    let app = limited(4).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let body = || json!({"message": "x".repeat(900)});
    assert_eq!(alice.post(&lobby.path("messages/"), body()).await.0, 201);
    assert_eq!(alice.post(&lobby.path("messages/"), body()).await.0, 201);
    let (status, refused) = alice.post(&lobby.path("messages/"), body()).await;
    assert_eq!((status, &refused["error"]["retryable"]), (429, &json!(true)), "{refused}");
}

#[tokio::test]
async fn rates_are_read_as_they_are_meant_or_refused() {
    let check =
        async |value: &str| Settings::embedded().with("SWITCHBOARD_RATE_FRAMES", value).run(&["config", "check"]).await;
    let shown = check("member=5/s").await.success();
    assert!(shown.contains("member=5/s:5 tenant=100000/s:200000 address=100000/s:200000"), "{shown}");
    assert!(check("member=off tenant=off address=off").await.success().contains("member=off tenant=off address=off"));
    for bad in ["5/s", "member=5", "member=0/s", "user=5/s", "member=5/d"] {
        let refused = check(bad).await;
        assert!(refused.code() == Some(1) && refused.stderr.contains("rate-frames"), "{bad}: {refused:?}");
    }
}
