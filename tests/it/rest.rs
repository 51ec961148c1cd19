//! The HTTP interface: tokens, members, channels and history.

use serde_json::{Value, json};
use switchboard_tests::tokens::payload_of;
use switchboard_tests::{App, Channel, Member, Settings, Tenant, keys, list, number, text};

const PASSWORD: &str = "correct horse battery staple";

async fn office() -> (App, Tenant, Member, Member, Channel) {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    (app, acme, alice, bob, lobby)
}

#[tokio::test]
async fn a_log_in_gives_tokens_as_simplejwt_makes_them() {
    let app = App::start(Settings::embedded().without("SWITCHBOARD_ACCESS_TTL")).await;
    let acme = app.tenant("acme").await;
    let alice = acme.member_with_password("alice", PASSWORD).await;
    let (status, tokens) = app.door().log_in(&acme.slug, "alice", PASSWORD).await;
    assert_eq!(status, 200, "{tokens}");
    assert_eq!(keys(&tokens), ["access", "refresh"]);
    for (name, life) in [("access", 300), ("refresh", 86_400)] {
        let claims = payload_of(text(&tokens, name));
        assert_eq!(claims["token_type"], name);
        assert_eq!(claims["schema_name"], acme.slug.as_str());
        assert_eq!(claims["user_id"], alice.id.as_str());
        assert_eq!(number(&claims, "exp") - number(&claims, "iat"), life);
        assert!(!text(&claims, "jti").is_empty());
    }
    let (status, me) = app.door().get("/api/me/", Some(text(&tokens, "access"))).await;
    assert_eq!(status, 200, "{me}");
    assert!(me.to_string().contains(&acme.slug) && me.to_string().contains("alice"), "{me}");
}

#[tokio::test]
async fn every_failed_log_in_gets_the_same_answer() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    acme.member_with_password("alice", PASSWORD).await;
    acme.member("bob").await;
    let closed = app.tenant("closed").await;
    closed.member_with_password("alice", PASSWORD).await;
    closed.disable().await;
    let door = app.door();
    let expected = door.log_in(&acme.slug, "alice", "wrong").await;
    assert_eq!(expected.0, 401, "{expected:?}");
    for (what, tenant, username, password) in [
        ("a member who is not there", acme.slug.as_str(), "carol", PASSWORD),
        ("a member without a password", acme.slug.as_str(), "bob", ""),
        ("an empty password", acme.slug.as_str(), "alice", ""),
        ("a tenant that is not there", "nowhere", "alice", PASSWORD),
        ("a tenant that is no slug", "../acme", "alice", PASSWORD),
        ("a disabled tenant", closed.slug.as_str(), "alice", PASSWORD),
    ] {
        assert_eq!(door.log_in(tenant, username, password).await, expected, "{what}");
    }
    for body in [json!({}), json!({"tenant": acme.slug, "username": "alice"}), json!({"tenant": 5}), json!([])] {
        let (status, error) = door.post("/api/token/", None, body.clone()).await;
        assert_eq!((status, &error["error"]["code"]), (400, &json!("bad_request")), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_good_until_its_successor_is_used_and_its_reuse_ends_the_family() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    acme.member_with_password("alice", PASSWORD).await;
    let door = app.door();
    let refresh = async |token: &str| door.post("/api/token/refresh/", None, json!({"refresh": token})).await;
    let (_, first) = door.log_in(&acme.slug, "alice", PASSWORD).await;
    let (_, other) = door.log_in(&acme.slug, "alice", PASSWORD).await;

    let (status, second) = refresh(text(&first, "refresh")).await;
    assert_eq!(status, 200, "{second}");
    assert_eq!(keys(&second), ["access", "refresh"]);
    assert_eq!(door.get("/api/me/", Some(text(&second, "access"))).await.0, 200);

    assert_eq!(refresh(text(&first, "refresh")).await, (200, second.clone()), "the answer may have been lost");
    let (status, third) = refresh(text(&second, "refresh")).await;
    assert_eq!(status, 200, "{third}");
    assert_eq!(refresh(text(&first, "refresh")).await.0, 401, "whoever uses it now never had the second");
    assert_eq!(refresh(text(&third, "refresh")).await.0, 401, "someone had a copy, so the whole family is dead");
    assert_eq!(refresh(text(&other, "refresh")).await.0, 200, "another log-in is another family");
    assert_eq!(refresh(text(&first, "access")).await.0, 401, "an access token refreshes nothing");
    assert_eq!(refresh("nonsense").await.0, 401);
}

#[tokio::test]
async fn of_refreshes_at_once_all_get_the_same_pair() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    acme.member_with_password("alice", PASSWORD).await;
    let door = app.door();
    let (_, tokens) = door.log_in(&acme.slug, "alice", PASSWORD).await;
    let body = json!({"refresh": text(&tokens, "refresh")});
    let attempts = (0..8).map(|_| door.post("/api/token/refresh/", None, body.clone()));
    let answers = futures_util::future::join_all(attempts).await;
    assert_eq!(answers[0].0, 200);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn verify_and_blacklist_answer_as_simplejwt_does() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    acme.member_with_password("alice", PASSWORD).await;
    let door = app.door();
    let (_, tokens) = door.log_in(&acme.slug, "alice", PASSWORD).await;
    for name in ["access", "refresh"] {
        let answer = door.post("/api/token/verify/", None, json!({"token": text(&tokens, name)})).await;
        assert_eq!(answer, (200, json!({})), "{name}");
    }
    assert_eq!(door.post("/api/token/verify/", None, json!({"token": "nonsense"})).await.0, 401);

    let refresh = json!({"refresh": text(&tokens, "refresh")});
    assert_eq!(door.post("/api/token/blacklist/", None, refresh.clone()).await, (200, json!({})));
    assert_eq!(door.post("/api/token/refresh/", None, refresh).await.0, 401);
}

#[tokio::test]
async fn a_channel_is_made_listed_and_read() {
    let (_app, acme, alice, bob, lobby) = office().await;
    let carol = acme.member("carol").await;
    let (status, made) = alice.post("/api/channels/", json!({"name": "plans", "members": [carol.id]})).await;
    assert_eq!(status, 201, "{made}");
    let plans = Channel { id: text(&made, "id").to_owned(), name: "plans".to_owned() };
    assert_eq!(made["name"], "plans");

    let (status, got) = carol.get(&plans.path("")).await;
    assert_eq!((status, &got["id"], &got["name"]), (200, &made["id"], &json!("plans")));
    assert_eq!(bob.get(&plans.path("")).await.0, 404, "bob is not in it");

    let (_, listed) = alice.get("/api/channels/").await;
    assert_eq!(keys(&listed), ["next", "previous", "results"]);
    let mut ids: Vec<&str> = list(&listed, "results").iter().map(|channel| text(channel, "id")).collect();
    ids.sort_unstable();
    let mut expected = [lobby.id.as_str(), plans.id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_channel_needs_a_name_and_members_of_the_tenant() {
    let (_app, _acme, alice, _bob, _lobby) = office().await;
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": 5}),
        json!({"name": "x".repeat(151)}),
        json!("plans"),
        json!({"name": "plans", "members": "bob"}),
        json!({"name": "plans", "members": ["nobody"]}),
        json!({"name": "a\u{0}b"}),
    ] {
        let (status, error) = alice.post("/api/channels/", body.clone()).await;
        assert_eq!((status, &error["error"]["code"]), (400, &json!("bad_request")), "{body}: {error}");
    }
}

#[tokio::test]
async fn the_list_tells_what_is_unread_and_what_was_said_last() {
    let (_app, _acme, alice, bob, lobby) = office().await;
    let lobby_of = async |member: &Member| -> Value {
        let (status, mut listed) = member.get("/api/channels/").await;
        assert_eq!(status, 200, "{listed}");
        listed["results"][0].take()
    };
    let fresh = lobby_of(&bob).await;
    assert_eq!((&fresh["unread_count"], &fresh["last_message"]), (&json!(0), &json!(null)));

    let mut a = alice.join(&lobby).await;
    let mut last = json!(null);
    for n in 1..=3 {
        last = a.say(&format!("message {n}")).await;
    }
    let unread = lobby_of(&bob).await;
    assert_eq!(unread["unread_count"], 3);
    assert_eq!(unread["last_message"]["content"], "message 3");
    assert_eq!(lobby_of(&alice).await["unread_count"], 0, "what one said oneself is not unread");

    let (status, answer) = bob.post(&lobby.path("read/"), json!({"message_id": last["message_id"]})).await;
    assert!(matches!(status, 200 | 204), "{status} {answer}");
    assert_eq!(lobby_of(&bob).await["unread_count"], 0);
    assert_eq!(a.next_of("message.read").await["user"], bob.as_json(), "the mark is told like one from a socket");
}

#[tokio::test]
async fn the_list_is_paged_by_cursor() {
    let (_app, acme, alice, _bob, lobby) = office().await;
    let mut expected = vec![lobby.id];
    for n in 0..6 {
        expected.push(acme.channel(&format!("channel {n}"), &[&alice]).await.id);
    }
    let mut listed = Vec::new();
    let mut path = Some("/api/channels/?limit=3".to_owned());
    let mut sizes = Vec::new();
    while let Some(at) = path {
        let (status, page) = alice.get(&at).await;
        assert_eq!(status, 200, "{page}");
        sizes.push(list(&page, "results").len());
        listed.extend(list(&page, "results").iter().map(|channel| text(channel, "id").to_owned()));
        path = page["next"].as_str().map(path_of);
    }
    assert_eq!(sizes, [3, 3, 1]);
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected, "each channel once");
    for (limit, items) in [("0", 1), ("-1", 1), ("101", 7), ("99999999999999999999", 7)] {
        let (status, page) = alice.get(&format!("/api/channels/?limit={limit}")).await;
        assert_eq!((status, list(&page, "results").len()), (200, items), "{limit}: {page}");
    }
    for query in ["limit=many", "limit=", "limit=1.5", "limit=3&limit=3", "x=1&x=2", "cursor=x"] {
        assert_eq!(alice.get(&format!("/api/channels/?{query}")).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn who_is_present_is_paged_by_cursor() {
    let (_app, acme, alice, bob, _lobby) = office().await;
    let mut members = vec![alice, bob];
    for n in 0..3 {
        members.push(acme.member(&format!("member {n}")).await);
    }
    let attic = acme.channel("attic", &members.iter().collect::<Vec<_>>()).await;
    let mut sockets = Vec::new();
    for member in &members {
        sockets.push(member.join(&attic).await);
    }
    let (mut present, mut sizes) = (Vec::new(), Vec::new());
    let mut path = Some(attic.path("presence/?limit=2"));
    while let Some(at) = path {
        let (status, page) = members[0].get(&at).await;
        assert_eq!(status, 200, "{page}");
        sizes.push(list(&page, "results").len());
        present.extend(list(&page, "results").iter().map(|user| text(user, "id").to_owned()));
        path = page["next"].as_str().map(path_of);
    }
    let mut expected: Vec<String> = members.iter().map(|member| member.id.clone()).collect();
    expected.sort_unstable();
    assert_eq!((sizes, present), (vec![2, 2, 1], expected));
    for query in ["?limit=x", "?cursor=", "?limit=1&limit=2"] {
        assert_eq!(members[0].get(&attic.path(&format!("presence/{query}"))).await.0, 400, "{query}");
    }
}

/// `next` may be a whole URL, as Django REST framework writes it, or a path.
fn path_of(next: &str) -> String {
    match next.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])) {
        Some(path) => path.to_owned(),
        None => next.to_owned(),
    }
}

#[tokio::test]
async fn members_come_and_go_and_a_removed_one_hears_nothing_more() {
    let (_app, acme, alice, bob, _lobby) = office().await;
    let carol = acme.member("carol").await;
    let (_, made) = alice.post("/api/channels/", json!({"name": "plans", "members": [bob.id]})).await;
    let plans = Channel { id: text(&made, "id").to_owned(), name: "plans".to_owned() };
    let names = async || -> Vec<String> {
        let (status, page) = alice.get(&plans.path("members/")).await;
        assert_eq!(status, 200, "{page}");
        let mut names = list(&page, "results").iter().map(|m| text(m, "username").to_owned()).collect::<Vec<_>>();
        names.sort_unstable();
        names
    };
    assert_eq!(names().await, ["alice", "bob"]);
    assert_eq!(bob.post(&plans.path("members/"), json!({"user_id": carol.id})).await.0, 403, "only an owner adds");
    assert_eq!(alice.post(&plans.path("members/"), json!({"user_id": "nobody"})).await.0, 400);
    assert_eq!(alice.post(&plans.path("members/"), json!({"user_id": carol.id})).await.0, 201);
    assert_eq!(names().await, ["alice", "bob", "carol"]);

    let mut a = alice.join(&plans).await;
    let mut one = bob.join(&plans).await;
    let mut many = bob.connect().await;
    many.subscribe(&plans).await;
    assert_eq!(alice.delete(&plans.path(&format!("members/{}/", bob.id))).await.0, 204);
    assert_eq!(names().await, ["alice", "carol"]);
    assert_eq!(one.expect_close().await.code, 4002, "a socket for this one channel has nothing left to do");
    a.say("between us").await;
    many.expect_silence("chat.message").await;
    let error = many.refused(json!({"type": "chat.message", "channel": plans.id, "message": "hello?"})).await;
    assert_eq!(error["code"], 102, "{error}");
    assert_eq!(bob.get(&plans.path("messages/")).await.0, 404);

    assert_eq!(carol.delete(&plans.path(&format!("members/{}/", alice.id))).await.0, 403);
    assert_eq!(carol.delete(&plans.path(&format!("members/{}/", carol.id))).await.0, 204, "anyone may leave");
}

#[tokio::test]
async fn history_is_paged_by_seq_in_both_directions() {
    let (_app, _acme, alice, _bob, lobby) = office().await;
    let mut a = alice.join(&lobby).await;
    for n in 1..=25 {
        a.say(&format!("message {n}")).await;
    }
    let seqs = async |query: &str| -> Vec<u64> {
        let (status, page) = alice.get(&lobby.path(&format!("messages/{query}"))).await;
        assert_eq!(status, 200, "{query}: {page}");
        list(&page, "results").iter().map(|message| number(message, "seq")).collect()
    };
    assert_eq!(seqs("?limit=3").await, [23, 24, 25], "the newest, oldest first");
    assert_eq!(seqs("?before=23&limit=3").await, [20, 21, 22]);
    assert_eq!(seqs("?after=0&limit=2").await, [1, 2]);
    assert_eq!(seqs("?after=23").await, [24, 25]);
    assert_eq!(seqs("?before=1").await, [0_u64; 0]);
    assert_eq!(seqs("?after=25").await, [0_u64; 0]);
    assert_eq!(seqs("?limit=0").await, [25]);
    for query in ["?before=x", "?after=-1", "?limit=x", "?before=5&after=1", "?before=5&before=5", "?limit=1&limit=1"] {
        assert_eq!(alice.get(&lobby.path(&format!("messages/{query}"))).await.0, 400, "{query}");
    }

    let mut walked = Vec::new();
    let mut path = Some(lobby.path("messages/?after=0&limit=10"));
    while let Some(at) = path {
        let (_, page) = alice.get(&at).await;
        walked.extend(list(&page, "results").iter().map(|message| number(message, "seq")));
        path = page["next"].as_str().map(path_of);
    }
    assert_eq!(walked, (1..=25).collect::<Vec<_>>(), "following `next` is reading all of it");
}

#[tokio::test]
async fn posting_goes_through_the_same_handlers_as_the_socket() {
    let (_app, _acme, alice, bob, lobby) = office().await;
    let mut b = bob.join(&lobby).await;
    let body = json!({"id": "c1", "message": "by post"});
    let (status, made) = alice.post(&lobby.path("messages/"), body.clone()).await;
    assert_eq!(status, 201, "{made}");
    let heard = b.next_of("chat.message").await;
    assert_eq!(heard["message"]["content"], "by post");
    assert_eq!(heard["message"]["sender"], alice.as_json());

    let (status, _) = alice.post(&lobby.path("messages/"), body).await;
    assert!(matches!(status, 200 | 201), "the same id gets the first answer: {status}");
    b.expect_silence("chat.message").await;
    let (status, error) = alice.post(&lobby.path("messages/"), json!({"id": "c1", "message": "else"})).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("id_conflict")), "{error}");
    let (status, error) = alice.post(&lobby.path("messages/"), json!({"message": 5})).await;
    assert!(matches!(status, 400 | 422), "{status} {error}");
    let (status, error) = alice.post(&lobby.path("messages/"), json!({"type": "no.such", "message": "x"})).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("unknown_type")), "{error}");
}

#[tokio::test]
async fn errors_have_one_form() {
    let (app, _acme, alice, _bob, _lobby) = office().await;
    let missing = alice.get(&Channel::missing().path("")).await;
    assert_eq!((missing.0, keys(&missing.1), keys(&missing.1["error"])), {
        (404, vec!["error"], vec!["code", "message", "retryable"])
    });
    assert_eq!(missing.1["error"]["code"], "unknown_channel");
    assert_eq!(alice.get("/api/channels/lobby/").await, missing, "what is no id is no channel");
    assert_eq!(app.door().get("/api/channels/", None).await.0, 401);
    assert_eq!(alice.get("/api/nothing/").await.0, 404);
    assert_eq!(alice.post("/api/me/", json!({})).await.0, 405);
}

#[tokio::test]
async fn operators_see_life_readiness_and_metrics() {
    let (app, _acme, alice, _bob, lobby) = office().await;
    alice.join(&lobby).await.say("count me").await;
    let admin = switchboard_tests::Door::new(app.broker().admin_address());
    for path in ["/livez", "/readyz"] {
        assert_eq!(app.door().get(path, None).await.0, 200, "{path}");
        assert_eq!(admin.get(path, None).await.0, 200, "{path}");
    }
    let (status, metrics) = admin.get("/metrics", None).await;
    assert_eq!(status, 200);
    let metrics = metrics.as_str().expect("the text format");
    assert!(metrics.contains("switchboard_events_total") && metrics.contains("switchboard_sessions"), "{metrics}");
    // They name tenants and plugins, which clients have no business with.
    let (status, answer) = app.door().get("/metrics", None).await;
    assert_eq!((status, &answer), (404, &app.door().get("/nothing", None).await.1));
}
