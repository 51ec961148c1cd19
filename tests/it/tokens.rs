//! Which tokens open a door, by which ways, and that all others get the same answer.

use jsonwebtoken::Algorithm::{HS256, HS384, HS512};
use serde_json::json;
use switchboard_tests::tokens::{Claims, SECRET};
use switchboard_tests::{App, Channel, Closed, Member, Settings, Signal, Socket, Tenant, text};

#[tokio::test]
async fn a_token_of_the_django_application_makes_its_member() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    for (user_id, id) in
        [(json!(42), "42"), (json!("0190c5a2-user"), "0190c5a2-user"), (json!(u64::MAX), "18446744073709551615")]
    {
        let token = Claims::access(&acme.slug, user_id).with("username", format!("member {id}")).sign();
        let member = Member::external(app.door(), &format!("member {id}"), id, token);
        let (status, me) = member.get("/api/me/").await;
        assert_eq!(status, 200, "{me}");
        assert_eq!(member.connect().await.greeting["user"], member.as_json());

        // The member is one of the tenant's like any other: it can be put into a channel and speak there.
        let lobby = acme.channel("lobby", &[&member]).await;
        let mut socket = member.join(&lobby).await;
        socket.say("hi").await;
        assert_eq!(socket.next_of("chat.message").await["message"]["sender"], member.as_json());
    }
}

#[tokio::test]
async fn a_token_without_a_username_still_makes_a_member() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let token = Claims::access(&acme.slug, 7).sign();
    let welcome = open(&app, &format!("/ws/?token={token}"), &[]).await.next_of("welcome").await;
    assert_eq!(welcome["user"]["id"], "7");
    assert!(!text(&welcome["user"], "username").is_empty());
}

#[tokio::test]
async fn without_auto_provisioning_only_known_members_get_in() {
    let settings = Settings::embedded().with("SWITCHBOARD_AUTO_PROVISION", "false");
    let app = App::start(settings).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let known = Claims::access(&acme.slug, alice.id.as_str()).sign();
    open(&app, &format!("/ws/?token={known}"), &[]).await.next_of("welcome").await;
    let unknown = Claims::access(&acme.slug, "stranger").sign();
    assert_eq!(open(&app, &format!("/ws/?token={unknown}"), &[]).await.expect_close().await.code, 4000);
}

/// Every way in which a token can be wrong, by name.
async fn bad_tokens(app: &App, acme: &Tenant) -> Vec<(&'static str, String)> {
    let closed = app.tenant("closed").await;
    closed.disable().await;
    let good = || Claims::access(&acme.slug, 7);
    let signed = good().sign();
    let (message, signature) = signed.rsplit_once('.').expect("three parts");
    let (header, _) = message.split_once('.').expect("three parts");
    let other = good().with("user_id", 8).sign();
    let other_payload = other.split('.').nth(1).expect("three parts");
    vec![
        ("a word", "token".to_owned()),
        ("two dots", "..".to_owned()),
        ("a signature cut short", format!("{message}.{}", &signature[..signature.len() - 2])),
        ("a signature left out", format!("{message}.")),
        ("the payload of another token", format!("{header}.{other_payload}.{signature}")),
        ("a fourth part", format!("{signed}.{signature}")),
        ("algorithm none", good().unsigned("none")),
        ("algorithm None", good().unsigned("None")),
        ("algorithm none with a signature", good().sign_with(SECRET, "none", HS256)),
        ("another secret", good().sign_with(&SECRET.to_uppercase(), "HS256", HS256)),
        ("an empty secret", good().sign_with("", "HS256", HS256)),
        ("another algorithm", good().sign_with(SECRET, "HS384", HS384)),
        ("another algorithm again", good().sign_with(SECRET, "HS512", HS512)),
        ("an algorithm that is not what signed it", good().sign_with(SECRET, "RS256", HS256)),
        ("past its end", good().ending_in(-60).sign()),
        ("without an end", good().without("exp").sign()),
        ("an end that is a text", good().with("exp", "tomorrow").sign()),
        ("not yet valid", good().with("nbf", i64::from(i32::MAX)).sign()),
        ("a refresh token", good().with("token_type", "refresh").sign()),
        ("without a type", good().without("token_type").sign()),
        ("without a member", good().without("user_id").sign()),
        ("a member that is an object", good().with("user_id", json!({"id": 7})).sign()),
        ("a member that is null", good().with("user_id", json!(null)).sign()),
        ("a member without a name", good().with("user_id", "").sign()),
        ("a member with too long an id", good().with("user_id", "x".repeat(65)).sign()),
        ("a member with a control character", good().with("user_id", "a\u{0}b").sign()),
        ("without a tenant", good().without("schema_name").without("tenant_id").sign()),
        ("a tenant that is not there", good().with("schema_name", "nowhere").sign()),
        ("a tenant that leaves its schema", good().with("schema_name", "../acme").sign()),
        ("a tenant with quotes", good().with("schema_name", "acme\"; DROP SCHEMA \"switchboard").sign()),
        ("a disabled tenant", good().with("schema_name", closed.slug.as_str()).sign()),
    ]
}

#[tokio::test]
async fn every_bad_token_gets_the_same_close() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let expected = Closed { code: 4000, reason: "authentication failed".to_owned() };
    for (what, token) in bad_tokens(&app, &acme).await {
        for path in ["/ws/".to_owned(), chat_path(&lobby)] {
            let (frames, closed) = open(&app, &format!("{path}?token={token}"), &[]).await.until_closed().await;
            assert_eq!((frames, &closed), (vec![], &expected), "{what} in the query of {path}");
            let mut socket = open(&app, &path, &[]).await;
            socket.send_json(json!({"type": "auth", "token": token})).await;
            let (frames, closed) = socket.until_closed().await;
            assert_eq!((frames, &closed), (vec![], &expected), "{what} in the first frame of {path}");
        }
    }
}

#[tokio::test]
async fn every_bad_token_gets_the_same_401() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let expected = app.door().get("/api/me/", None).await;
    assert_eq!(expected.0, 401, "{expected:?}");
    for (what, token) in bad_tokens(&app, &acme).await {
        assert_eq!(app.door().get("/api/me/", Some(&token)).await, expected, "{what}");
    }
}

#[tokio::test]
async fn a_token_may_come_in_the_header_authorization() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let (address, token) = (app.door().address(), alice.token.as_str());
    let query = format!("/ws/?token={token}");
    for (path, headers) in [
        ("/ws/", vec![("authorization", format!("Bearer {token}"))]),
        ("/ws/", vec![("authorization", format!("JWT {token}"))]),
        // Given in several places, it is the same.
        (&query, vec![("authorization", format!("Bearer {token}"))]),
        (&query, vec![("sec-websocket-protocol", format!("switchboard.v1, bearer.{token}"))]),
        // Credentials of another scheme are for a proxy.
        (&query, vec![("authorization", "Basic YTpi".to_owned())]),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut socket = Socket::open("alice", address, path, &headers).await.expect("an upgrade");
        assert_eq!(socket.next_of("welcome").await["user"], alice.as_json(), "{path} {headers:?}");
    }
}

#[tokio::test]
async fn tokens_and_positions_that_contradict_each_other_are_refused_at_once() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let (address, token) = (app.door().address(), alice.token.as_str());
    let other = format!("{token}x");
    for (path, headers) in [
        (format!("/ws/?token={token}&token={token}"), vec![]),
        (format!("/ws/?token={token}&since=a:1&since=a:1"), vec![]),
        (format!("/ws/?token={token}"), vec![("authorization", format!("Bearer {other}"))]),
        (format!("/ws/?token={other}"), vec![("authorization", format!("Bearer {token}"))]),
        (format!("/ws/?token={token}"), vec![("sec-websocket-protocol", format!("switchboard.v1, bearer.{other}"))]),
        (
            "/ws/".to_owned(),
            vec![("authorization", format!("Bearer {token}")), ("authorization", format!("JWT {other}"))],
        ),
        ("/ws/".to_owned(), vec![("sec-websocket-protocol", format!("bearer.{token}, bearer.{other}"))]),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let opened = Socket::open("alice", address, &path, &headers).await;
        let refused = opened.err().unwrap_or_else(|| panic!("{path} {headers:?} was let in"));
        assert_eq!(refused.status, 400, "{path} {headers:?}");
        assert!(!refused.body.contains(token), "a token is not repeated");
    }
}

#[tokio::test]
async fn a_token_may_come_as_a_subprotocol_on_both_paths() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let offer = format!("switchboard.v1, bearer.{}", alice.token);
    for (path, greeting) in [("/ws/".to_owned(), "welcome"), (chat_path(&lobby), "channel.state")] {
        let mut socket = open(&app, &path, &[("sec-websocket-protocol", &offer)]).await;
        assert_eq!(socket.subprotocol.as_deref(), Some("switchboard.v1"), "the token is never sent back");
        socket.next_of(greeting).await;
        let bad = "switchboard.v1, bearer.nonsense";
        assert_eq!(open(&app, &path, &[("sec-websocket-protocol", bad)]).await.expect_close().await.code, 4000);
    }
}

#[tokio::test]
async fn a_token_may_come_as_the_first_frame_on_both_paths() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    for (path, greeting) in [("/ws/".to_owned(), "welcome"), (chat_path(&lobby), "channel.state")] {
        let mut socket = open(&app, &path, &[]).await;
        socket.send_json(json!({"type": "auth", "token": alice.token})).await;
        socket.next_of(greeting).await;
    }
}

#[tokio::test]
async fn nothing_happens_before_the_token_and_it_must_come_in_time() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;

    let mut early = open(&app, &chat_path(&lobby), &[]).await;
    early.send_json(json!({"type": "chat.message", "id": "c1", "message": "let me in"})).await;
    let (frames, closed) = early.until_closed().await;
    assert_eq!((frames, closed.code), (vec![], 4000));
    let (_, page) = alice.get(&lobby.path("messages/")).await;
    assert_eq!(page["results"], json!([]));

    let (frames, closed) = open(&app, "/ws/", &[]).await.until_closed().await;
    assert_eq!((frames, closed.code), (vec![], 4005));
}

#[tokio::test]
async fn a_live_socket_takes_a_new_token_of_the_same_member_only() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let mut a = alice.connect().await;
    let renewed = acme.member_with_token("alice").await.token;
    a.acked(json!({"type": "auth.refresh", "token": renewed})).await;
    let error = a.refused(json!({"type": "auth.refresh", "token": "nonsense"})).await;
    assert_eq!(error["code"], 101, "{error}");
    a.acked(json!({"type": "ping"})).await;
    a.send_json(json!({"type": "auth.refresh", "token": bob.token})).await;
    assert_eq!(a.expect_close().await.code, 4003);
}

#[tokio::test]
async fn a_token_without_a_sensible_end_is_refused() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    for end in [json!(i64::MAX), json!(9_007_199_254_740_991_i64), json!(1e300), json!(4_102_444_800.5)] {
        let token = Claims::access(&acme.slug, 7).with("exp", end.clone()).sign();
        assert_eq!(open(&app, &format!("/ws/?token={token}"), &[]).await.expect_close().await.code, 4000, "{end}");
    }
    let long = Claims::access(&acme.slug, 7).ending_in(89 * 24 * 60 * 60).sign();
    open(&app, &format!("/ws/?token={long}"), &[]).await.next_of("welcome").await;
    assert!(!app.stop(Signal::Terminate).await.stderr.contains("panicked"));
}

#[tokio::test]
async fn no_token_reaches_the_log() {
    // What the compiler of plugins has to say fills a disk and knows no token.
    let filter = "trace,wasmtime=info,cranelift=info,regalloc2=info";
    let app = App::start(Settings::embedded().with("SWITCHBOARD_LOG", filter)).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member("alice").await;
    let mut a = alice.connect().await;
    a.acked(json!({"type": "ping"})).await;
    a.leave().await;
    let bad = Claims::access(&acme.slug, 7).sign_with(&SECRET.to_uppercase(), "HS256", HS256);
    open(&app, &format!("/ws/?token={bad}"), &[]).await.expect_close().await;
    let exit = app.stop(Signal::Terminate).await;
    for secret in [alice.token.as_str(), bad.as_str(), SECRET] {
        let part = secret.rsplit('.').next().unwrap_or(secret);
        assert!(!exit.stderr.contains(part) && !exit.stdout.contains(part), "a secret is in the log");
    }
}

fn chat_path(channel: &Channel) -> String {
    format!("/ws/chat/{}/", channel.id)
}

async fn open(app: &App, path: &str, headers: &[(&'static str, &str)]) -> Socket {
    let opened = Socket::open("someone", app.door().address(), path, headers).await;
    opened.unwrap_or_else(|refused| panic!("{path} was not upgraded: {refused:?}"))
}
