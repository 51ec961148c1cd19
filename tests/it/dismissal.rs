//! Whoever is dismissed is out: its tokens are refused, and its sockets close on every node.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_tests::tokens::{Claims, payload_of};
use switchboard_tests::{App, Channel, Closed, Cluster, Database, Member, Settings, Socket, Tenant, text};
use tokio::time::{Instant, timeout};

use crate::redis_server::PrivateRedis;

/// What docs/protocol.md promises.
const WITHIN: Duration = Duration::from_secs(5);

const PASSWORD: &str = "correct horse battery";

/// Somebody who is about to be dismissed, with sockets on both nodes, beside somebody who is not.
struct Scene {
    cluster: Cluster,
    tenant: Tenant,
    other: Tenant,
    lobby: Channel,
    mallory: Member,
    bob: Member,
    stranger: Member,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::two_nodes().await;
        let (tenant, other) = (cluster.tenant("acme").await, cluster.tenant("apex").await);
        let mallory = tenant.member_with_password("mallory", PASSWORD).await;
        let bob = tenant.member("bob").await;
        let stranger = other.member("mallory").await;
        let lobby = tenant.channel("lobby", &[&bob, &mallory]).await;
        Self { cluster, tenant, other, lobby, mallory, bob, stranger }
    }

    async fn run(&self, arguments: &[&str]) -> String {
        self.cluster.a.settings().run(arguments).await.success()
    }

    /// Sockets of a member on both nodes, for one channel and for many.
    async fn sockets(&self, member: &Member) -> Vec<Socket> {
        let there = member.at(self.cluster.b.door());
        vec![
            member.join(&self.lobby).await,
            member.connect().await,
            there.join(&self.lobby).await,
            there.connect().await,
        ]
    }
}

/// All of these close as revoked, and no later than promised. Printed is how long the last one took.
async fn all_close(what: &str, sockets: Vec<Socket>) {
    let begun = Instant::now();
    for mut socket in sockets {
        let closed =
            timeout(WITHIN, socket.until_closed()).await.unwrap_or_else(|_| panic!("{what}: a socket stays open"));
        assert_eq!(closed.1, Closed { code: 4002, reason: "revoked".to_owned() }, "{what}");
    }
    println!("{what}: all sockets closed after {:?}", begun.elapsed());
}

async fn is_refused(app: &App, token: &str) {
    assert_eq!(app.door().get("/api/me/", Some(token)).await.0, 401);
    let mut socket = Socket::open("it", app.door().address(), &format!("/ws/?token={token}"), &[]).await.unwrap();
    assert_eq!(socket.expect_close().await.code, 4000);
}

#[tokio::test]
async fn a_member_dismissed_by_command_is_out_on_every_node() {
    let scene = Scene::new().await;
    let slug = scene.tenant.slug.as_str();
    let mut bystander = scene.bob.connect().await;
    let mut namesake = scene.stranger.connect().await;
    let mut mallory = scene.mallory.clone();
    let log_in = async |password: &str| scene.cluster.b.door().log_in(slug, "mallory", password).await;

    let sockets = scene.sockets(&mallory).await;
    let said = scene.run(&["user", "disable", slug, "mallory"]).await;
    assert!(said.contains("within 5 seconds"), "{said}");
    all_close("user disable", sockets).await;
    is_refused(&scene.cluster.a, &mallory.token).await;
    is_refused(&scene.cluster.b, &mallory.token).await;
    assert_eq!(log_in(PASSWORD).await.0, 401);

    scene.run(&["user", "enable", slug, "mallory"]).await;
    is_refused(&scene.cluster.a, &mallory.token).await;
    let (status, pair) = log_in(PASSWORD).await;
    assert_eq!(status, 200, "{pair}");
    mallory.token = text(&pair, "access").to_owned();

    let sockets = scene.sockets(&mallory).await;
    let changed = ["user", "password", slug, "mallory", "--password-stdin"];
    scene.cluster.a.settings().run_with_input(&changed, "another good password\n").await.success();
    all_close("user password", sockets).await;
    is_refused(&scene.cluster.b, &mallory.token).await;
    assert_eq!(log_in(PASSWORD).await.0, 401);
    mallory.token = text(&log_in("another good password").await.1, "access").to_owned();

    let sockets = scene.sockets(&mallory).await;
    scene.run(&["user", "rename", slug, "mallory", "mel"]).await;
    all_close("user rename", sockets).await;
    is_refused(&scene.cluster.a, &mallory.token).await;
    mallory.token = scene.run(&["token", slug, "mel"]).await.trim().to_owned();
    assert_eq!(mallory.get("/api/me/").await.1["username"], "mel");

    let sockets = scene.sockets(&mallory).await;
    let refused = scene.cluster.a.settings().run(&["user", "delete", slug, "mel"]).await;
    assert!(refused.code() == Some(1) && refused.stderr.contains("--yes"), "{refused:?}");
    scene.run(&["user", "delete", slug, "mel", "--yes"]).await;
    all_close("user delete", sockets).await;
    is_refused(&scene.cluster.a, &mallory.token).await;
    let external = Claims::access(slug, "mallory").with("username", "mallory").sign();
    is_refused(&scene.cluster.a, &external).await;

    // Of others nobody was touched.
    bystander.acked(json!({"type": "ping"})).await;
    namesake.acked(json!({"type": "ping"})).await;
    let sockets = scene.sockets(&scene.bob).await;
    scene.run(&["tenant", "disable", slug]).await;
    all_close("tenant disable", sockets).await;
    scene.run(&["tenant", "enable", slug]).await;
    is_refused(&scene.cluster.b, &scene.bob.token).await;
    let bob = scene.bob.with(&scene.run(&["token", slug, "bob"]).await);
    let sockets = scene.sockets(&bob).await;
    scene.run(&["tenant", "delete", slug, "--yes"]).await;
    all_close("tenant delete", sockets).await;
    is_refused(&scene.cluster.a, &bob.token).await;
    namesake.acked(json!({"type": "ping"})).await;
    assert_eq!(scene.stranger.get("/api/me/").await.0, 200, "{}", scene.other.slug);
}

#[tokio::test]
async fn a_log_out_ends_its_log_in_on_every_node_and_no_other() {
    let scene = Scene::new().await;
    let log_in = async || scene.cluster.a.door().log_in(&scene.tenant.slug, "mallory", PASSWORD).await.1;
    let (here, elsewhere) = (log_in().await, log_in().await);
    let with = |pair: &Value| scene.mallory.with(text(pair, "access"));
    let sockets = scene.sockets(&with(&here)).await;
    let mut phone = with(&elsewhere).connect().await;
    let door = scene.cluster.b.door();
    let (status, _) = door.post("/api/token/blacklist/", None, json!({"refresh": here["refresh"]})).await;
    assert_eq!(status, 200);
    all_close("log-out", sockets).await;
    is_refused(&scene.cluster.a, text(&here, "access")).await;
    for token in [&here["refresh"], &here["access"]] {
        assert_eq!(door.post("/api/token/verify/", None, json!({"token": token})).await.0, 401);
    }
    phone.acked(json!({"type": "ping"})).await;
    assert_eq!(door.post("/api/token/verify/", None, json!({"token": elsewhere["refresh"]})).await.0, 200);

    // An access token of another issuer derives from no log-in here: it ends alone.
    let (one, two) = (Claims::access(&scene.tenant.slug, 7).sign(), Claims::access(&scene.tenant.slug, 7).sign());
    let external = Member::external(scene.cluster.a.door(), "7", "7", one.clone());
    let mut socket = external.connect().await;
    assert_eq!(door.post("/api/token/blacklist/", None, json!({"access": one})).await.0, 200);
    assert_eq!(timeout(WITHIN, socket.expect_close()).await.unwrap().code, 4002);
    is_refused(&scene.cluster.b, &one).await;
    assert_eq!(door.get("/api/me/", Some(&two)).await.0, 200);
    assert_eq!(door.post("/api/token/blacklist/", None, json!({})).await.0, 400);
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_its_log_in_on_every_node() {
    let scene = Scene::new().await;
    let door = scene.cluster.a.door();
    let refresh = async |token: &Value| door.post("/api/token/refresh/", None, json!({"refresh": token})).await;
    let (_, first) = door.log_in(&scene.tenant.slug, "mallory", PASSWORD).await;
    let (status, second) = refresh(&first["refresh"]).await;
    assert_eq!(status, 200, "{second}");
    let (_, again) = refresh(&first["refresh"]).await;
    assert_eq!(again, second, "the answer may have been lost: the same client gets the same pair");
    let (_, third) = refresh(&second["refresh"]).await;
    let member = scene.mallory.with(text(&third, "access"));
    let sockets = scene.sockets(&member).await;
    assert_eq!(refresh(&first["refresh"]).await.0, 401, "its successor was used: this is somebody else");
    all_close("theft", sockets).await;
    assert_eq!(refresh(&third["refresh"]).await.0, 401, "the family has ended");
    is_refused(&scene.cluster.b, &member.token).await;
    assert_eq!(payload_of(text(&third, "access"))["family"], payload_of(text(&first, "refresh"))["jti"]);
}

/// The bus says so at once. When it cannot, the store does.
#[tokio::test]
async fn a_member_removed_from_a_channel_is_out_of_it_on_every_node_also_without_redis() {
    let redis = PrivateRedis::start().await;
    let cluster = Cluster::two_nodes_on(&redis.url()).await;
    let tenant = cluster.tenant("acme").await;
    let (alice, bob) = (tenant.member("alice").await, tenant.member("bob").await);
    for frozen in [false, true] {
        let lobby = tenant.channel("lobby", &[&alice, &bob]).await;
        let there = bob.at(cluster.b.door());
        let (mut one, mut many) = (there.join(&lobby).await, there.connect().await);
        many.subscribe(&lobby).await;
        let mut own = alice.join(&lobby).await;
        if frozen {
            redis.freeze();
        }
        assert_eq!(alice.delete(&lobby.path("members/bob/")).await.0, 204);
        assert_eq!(timeout(WITHIN, one.until_closed()).await.expect("in time").1.code, 4002);
        timeout(WITHIN, many.next_of("unsubscribed")).await.expect("in time");
        if frozen {
            redis.thaw();
        }
        many.acked(json!({"type": "ping"})).await;
        own.acked(json!({"type": "ping"})).await;
    }
}

#[tokio::test]
async fn external_refresh_tokens_are_exchanged_only_if_a_setting_says_so() {
    let refresh = |slug: &str, id: u64| Claims::access(slug, id).with("token_type", "refresh").sign();
    for (setting, status) in [("false", 401), ("true", 200)] {
        let settings = Settings::embedded().with("SWITCHBOARD_EXCHANGE_EXTERNAL_REFRESH", setting);
        let app = App::start(settings).await;
        let acme = app.tenant("acme").await;
        let body = json!({"refresh": refresh(&acme.slug, 7)});
        assert_eq!(app.door().post("/api/token/refresh/", None, body).await.0, status, "{setting}");
        let verify = json!({"token": refresh(&acme.slug, 8)});
        assert_eq!(app.door().post("/api/token/verify/", None, verify).await.0, 200, "it is a good token");
    }
}

#[tokio::test]
async fn a_members_new_name_is_taken_over_from_its_token_and_a_bad_one_keeps_nobody_out() {
    let app = App::embedded().await;
    let acme = app.tenant("acme").await;
    let now = switchboard::model::Clock::system().now().seconds();
    let named = |name: Value, issued: i64| {
        let token = Claims::access(&acme.slug, 7).with("username", name).with("iat", issued).sign();
        Member::external(app.door(), "7", "7", token)
    };
    let name = async |member: &Member| member.get("/api/me/").await.1["username"].clone();
    assert_eq!(name(&named(json!("zoe"), now)).await, "zoe");
    let married = named(json!("zoe smith"), now + 5);
    assert_eq!(name(&married).await, "zoe smith");
    assert_eq!(
        name(&named(json!("zoe"), now)).await,
        "zoe smith",
        "a token from before does not bring the old name back"
    );
    for bad in [json!("\u{202e}eve"), json!(" "), json!(7), json!("x".repeat(151))] {
        assert_eq!(name(&named(bad.clone(), now + 6)).await, "zoe smith", "{bad}");
    }
    acme.member("alice").await;
    assert_eq!(name(&named(json!("alice"), now + 7)).await, "zoe smith", "that is another member's");
    let socket = married.connect().await;
    assert_eq!(socket.greeting["user"]["username"], "zoe smith");
}

#[tokio::test]
async fn nodes_with_another_secret_say_so_on_postgres_and_a_rotation_logs_nobody_out() {
    const OLD: &str = "6f1d2c3b4a5968778695a4b3c2d1e0f06f1d";
    const NEW: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e";
    let redis = PrivateRedis::start().await;
    let database = Database::create().await;
    let node = |secret: &str, previous: Option<&str>| {
        let node = Settings::node(&database.url(), &redis.url()).with("SWITCHBOARD_JWT_SECRET", secret);
        match previous {
            Some(previous) => node.with("SWITCHBOARD_JWT_PREVIOUS_SECRET", previous),
            None => node,
        }
    };
    let a = App::start(node(OLD, None)).await;
    let acme = a.tenant("acme").await;
    acme.member_with_password("alice", PASSWORD).await;
    let (_, pair) = a.door().log_in(&acme.slug, "alice", PASSWORD).await;
    let ready = async |app: &App| app.door().get("/readyz", None).await.1.to_string();
    assert!(ready(&a).await.contains("ready"));

    let wrong = App::start(node(NEW, None)).await;
    for app in [&wrong, &a] {
        switchboard_tests::eventually("it says so", async || ready(app).await.contains("has another secret")).await;
    }
    drop(wrong);
    // The rotation: first every node knows the new secret, then signs with it, then forgets the old one.
    for (secret, previous) in [(OLD, Some(NEW)), (NEW, Some(OLD))] {
        let b = App::start(node(secret, previous)).await;
        assert_eq!(b.door().get("/api/me/", Some(text(&pair, "access"))).await.0, 200);
        let (status, renewed) = b.door().post("/api/token/refresh/", None, json!({"refresh": pair["refresh"]})).await;
        assert_eq!(status, 200, "{renewed}");
    }
}
