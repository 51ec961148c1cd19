//! What the bus loses is found in the store, and a store that was set back is not passed over in silence.
//!
//! A message that no bus carries is made for real: it is written into Postgres, as if a node had stored it and died before
//! it could tell.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_tests::{App, Channel, Cluster, Door, Goal, Member, Socket, Tenant, figure, number, text};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use crate::redis_server::{PrivateRedis, until};

/// Within what a lost message is to arrive: nodes compare their positions with the store every two seconds at most.
const REPAIRED_WITHIN: Goal<Duration> = Goal::AtMost(Duration::from_secs(5));

/// Within what a join is answered while Redis hangs: a second for the bus, one for presence.
const ANSWERED_WITHIN: Goal<Duration> = Goal::AtMost(Duration::from_millis(3_500));

/// The shortest of the waits for a Redis that hangs, that of a call of presence or of the bus.
const A_WAIT: Duration = Duration::from_secs(1);

/// A tenant's data as a database administrator sees it.
struct Behind {
    sql: Client,
    tenant: String,
}

impl Behind {
    /// The nodes' back.
    async fn of(app: &App, tenant: &Tenant) -> Self {
        let (sql, connection) = tokio_postgres::connect(&app.database_url(), NoTls).await.expect("Postgres answers");
        tokio::spawn(async move { drop(connection.await) });
        Self { sql, tenant: format!("\"tenant_{}\"", tenant.slug) }
    }

    /// Stores the channel's next message, and tells nobody.
    async fn say(&self, channel: &Channel, sender: &Member, message: &str) {
        let statement = format!(
            "WITH next AS (UPDATE {t}.chat_channel SET seq = seq + 1 WHERE id = $1::text::uuid RETURNING id, seq) \
             INSERT INTO {t}.chat_message (id, channel_id, seq, kind, sender_id, content, attachments, created_at) \
             SELECT gen_random_uuid(), id, seq, 'chat.message', $2, $3, '[]', now() FROM next",
            t = self.tenant
        );
        let written = self
            .sql
            .execute(&statement, &[&channel.id, &sender.id, &json!(message).to_string()])
            .await
            .expect("is SQL");
        assert_eq!(written, 1);
    }

    /// Changes the rows of a table.
    async fn change(&self, table: &str, how: &str) {
        let statement = how.replace("{t}", &format!("{}.{table}", self.tenant));
        self.sql.batch_execute(&statement).await.expect("is SQL");
    }
}

/// A metric of one node, summed over its labels unless they are named.
async fn counted(app: &App, name: &str) -> u64 {
    let (_, text) = Door::new(app.broker().admin_address()).get("/metrics", None).await;
    let lines = text.as_str().expect("the text format").lines();
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    let wanted =
        samples.filter(|(sample, _)| *sample == name || sample.split_once('{').is_some_and(|(n, _)| n == name));
    wanted.map(|(_, value)| value.parse::<u64>().expect("a whole number")).sum()
}

/// How many times a node has compared positions with the store.
async fn compared(app: &App) -> f64 {
    app.broker().metric("switchboard_checks_total", &[r#"subject="positions""#, r#"result="ok""#]).await
}

/// Waits for a message, and says how long it took.
async fn heard(socket: &mut Socket, content: &str) -> (Value, Duration) {
    let since = Instant::now();
    let said = socket.next_where(content, |frame| frame["message"]["content"] == content).await;
    (said, since.elapsed())
}

#[tokio::test]
async fn a_lost_last_message_arrives_without_another_one() {
    let cluster = Cluster::two_nodes().await;
    let acme = cluster.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(cluster.b.door()));
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let behind = Behind::of(&cluster.a, &acme).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    a.say("told").await;
    for round in 0..3 {
        let lost = format!("lost {round}");
        behind.say(&lobby, &alice, &lost).await;
        for (node, socket) in [(&cluster.a, &mut a), (&cluster.b, &mut b)] {
            let repairs = counted(node, "switchboard_gap_repairs_total").await;
            let before = compared(node).await;
            let (said, took) = heard(socket, &lost).await;
            let compared = compared(node).await - before;
            figure("a lost last message arrived after", took, REPAIRED_WITHIN);
            println!("meanwhile the node finished {compared} comparisons with the store");
            assert_eq!(number(&said, "seq"), round + 2);
            // One may have been under way, and the next one finds it. A busy machine may add one before we look.
            assert!(compared <= 3.0, "the first comparison that could find it did not: {compared}");
            let repaired = counted(node, "switchboard_gap_repairs_total").await - repairs;
            assert!(repaired <= 2, "one page holds it, and it is read once or twice: {repaired}");
        }
    }
    assert_eq!(a.say("and on it goes").await["seq"], 5);
    let (said, _) = heard(&mut b, "and on it goes").await;
    assert_eq!(said["seq"], 5);
    b.expect_silence("user.leave").await;
}

#[tokio::test]
async fn a_store_that_is_set_back_costs_the_sockets_of_its_channels_and_nothing_is_skipped() {
    let cluster = Cluster::two_nodes().await;
    let acme = cluster.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(cluster.b.door()));
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let attic = acme.channel("attic", &[&alice, &bob]).await;
    let behind = Behind::of(&cluster.a, &acme).await;
    let mut elsewhere = bob.join(&attic).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    for message in ["one", "two", "three"] {
        a.say(message).await;
        heard(&mut b, message).await;
    }

    // A backup of the time of the first message.
    let since = Instant::now();
    behind.change("chat_message", &format!("DELETE FROM {{t}} WHERE channel_id = '{}' AND seq > 1", lobby.id)).await;
    behind.change("chat_channel", &format!("UPDATE {{t}} SET seq = 1 WHERE id = '{}'", lobby.id)).await;
    for socket in [&mut a, &mut b] {
        assert_eq!(socket.expect_close().await.code, 4203);
        println!("a socket whose channel was set back closed after {:?}", since.elapsed());
    }
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    assert_eq!((&a.greeting["seq"], &b.greeting["seq"]), (&json!(1), &json!(1)));
    assert_eq!(a.say("two, again").await["seq"], 2);
    assert_eq!(heard(&mut b, "two, again").await.0["seq"], 2);

    // As the operator's manual says after a restore.
    let epoch = a.greeting["epoch"].clone();
    behind.change("chat_channel", &format!("UPDATE {{t}} SET epoch = 'anew' WHERE id = '{}'", lobby.id)).await;
    for socket in [&mut a, &mut b] {
        assert_eq!(socket.expect_close().await.code, 4203);
    }
    let a = alice.join(&lobby).await;
    assert_eq!((&epoch != "anew", &a.greeting["epoch"]), (true, &json!("anew")));

    elsewhere.say("here all is as it was").await;
    assert_eq!(counted(&cluster.b, "switchboard_sessions_dropped_total{reason=\"position_lost\"}").await, 2);
}

#[tokio::test]
async fn a_message_that_was_taken_out_of_the_store_does_not_hold_the_channel_up() {
    let cluster = Cluster::two_nodes().await;
    let acme = cluster.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(cluster.b.door()));
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let behind = Behind::of(&cluster.a, &acme).await;
    let mut b = bob.join(&lobby).await;
    behind.change("chat_channel", &format!("BEGIN; UPDATE {{t}} SET seq = 1 WHERE id = '{}'", lobby.id)).await;
    behind.say(&lobby, &alice, "two").await;
    behind.sql.batch_execute("COMMIT").await.expect("is SQL");
    assert_eq!(b.expect_close().await.code, 4203);
    let mut b = bob.join(&lobby).await;
    alice.join(&lobby).await.say("three").await;
    assert_eq!(heard(&mut b, "three").await.0["seq"], 3);
}

/// What a node says of itself to a load balancer.
async fn readiness(app: &App) -> (u16, String) {
    let (status, body) = Door::new(app.broker().admin_address()).get("/readyz", None).await;
    (status, body.as_str().expect("a word").trim().to_owned())
}

#[tokio::test]
async fn while_redis_hangs_nobody_waits_long_and_what_is_said_arrives_from_the_store() {
    let redis = PrivateRedis::start().await;
    let cluster = Cluster::two_nodes_on(&redis.url()).await;
    let acme = cluster.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(cluster.b.door()));
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let attic = acme.channel("attic", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    assert_eq!(readiness(&cluster.b).await, (200, "ready".to_owned()));
    assert_eq!(counted(&cluster.b, "switchboard_bus_connected").await, 1);

    redis.freeze();
    let mut many = alice.connect().await;
    for (what, frame) in [
        ("while Redis hung, the first join took", json!({"type": "subscribe", "channel": attic.id})),
        ("a message took", json!({"type": "chat.message", "channel": attic.id, "message": "here"})),
        ("leaving took", json!({"type": "unsubscribe", "channel": attic.id})),
        ("the second join took", json!({"type": "subscribe", "channel": attic.id})),
        ("leaving again took", json!({"type": "unsubscribe", "channel": attic.id})),
    ] {
        figure(what, answered(&mut many, frame).await, ANSWERED_WITHIN);
    }
    a.say("meanwhile").await;
    let (said, late) = heard(&mut b, "meanwhile").await;
    figure("while Redis hung, a message was on the other node after", late, REPAIRED_WITHIN);
    assert_eq!(said["seq"], 1);

    until("the node says so", async || readiness(&cluster.b).await == (200, "degraded: bus unavailable".to_owned()))
        .await;
    assert_eq!(counted(&cluster.b, "switchboard_bus_connected").await, 0);
    assert_eq!(counted(&cluster.a, "switchboard_presence_connected").await, 0);
    until("the other node knows, too", async || readiness(&cluster.a).await.1 != "ready").await;
    // Once it is known, nobody waits for Redis. A wait would take a second of the broker's clock each time, so the
    // quickest of several tells, however busy the machine is.
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        joins.push(answered(&mut many, json!({"type": "subscribe", "channel": attic.id})).await);
        leaves.push(answered(&mut many, json!({"type": "unsubscribe", "channel": attic.id})).await);
    }
    println!("once it is known, joining takes {joins:?} and leaving {leaves:?}");
    for times in [joins, leaves] {
        assert!(times.iter().min() < Some(&A_WAIT), "{times:?}");
    }
    for lost in ["lost the bus", "lost presence"] {
        cluster.a.broker().logged(lost).await;
        assert_eq!(cluster.a.broker().events(lost).len(), 1);
    }
    let dropped = counted(&cluster.a, "switchboard_bus_dropped_total").await;
    a.say("into the void").await;
    assert!(counted(&cluster.a, "switchboard_bus_dropped_total").await > dropped);

    redis.thaw();
    until("the node is whole again", async || readiness(&cluster.b).await == (200, "ready".to_owned())).await;
    heard(&mut b, "into the void").await;
    until("and so is its presence", async || counted(&cluster.a, "switchboard_presence_connected").await == 1).await;
}

/// How long the answer to a frame takes.
async fn answered(socket: &mut Socket, frame: Value) -> Duration {
    let since = Instant::now();
    socket.acked(frame).await;
    since.elapsed()
}

#[tokio::test]
async fn a_tenant_whose_tables_are_locked_holds_no_other_up() {
    let cluster = Cluster::two_nodes().await;
    let (acme, globex) = (cluster.tenant("acme").await, cluster.tenant("globex").await);
    let (alice, gina) = (acme.member("alice").await, globex.member("gina").await);
    let lobby = acme.channel("lobby", &[&alice]).await;
    let lounge = globex.channel("lounge", &[&gina]).await;
    let (mut a, mut g) = (alice.join(&lobby).await, gina.join(&lounge).await);
    let (of_acme, of_globex) = (Behind::of(&cluster.a, &acme).await, Behind::of(&cluster.a, &globex).await);
    let failed = || cluster.a.broker().events("failed to check channels against the store").len();

    of_acme.change("chat_channel", "BEGIN; LOCK TABLE {t}").await;
    of_acme.say(&lobby, &alice, "behind the lock").await;
    let mut round = 0;
    let mut longest = Duration::ZERO;
    while failed() == 0 {
        round += 1;
        let lost = format!("lost {round}");
        of_globex.say(&lounge, &gina, &lost).await;
        longest = longest.max(heard(&mut g, &lost).await.1);
    }
    println!("beside a locked tenant {round} lost messages arrived");
    figure("the slowest of them arrived after", longest, REPAIRED_WITHIN);
    of_acme.sql.batch_execute("COMMIT").await.expect("is SQL");
    heard(&mut a, "behind the lock").await;
    assert_eq!(failed(), 1, "it is said once");
    until("that it works again is said, too", async || {
        cluster.a.broker().events("all channels are checked against the store again").len() == 1
    })
    .await;
}

#[tokio::test]
async fn channels_whose_joins_stall_hold_no_other_join_up() {
    const STALLED: i64 = 8;
    let app = App::postgres().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (alice, gina) = (acme.member("alice").await, globex.member("gina").await);
    let channels = async |member: &Member, count: i64| {
        let mut made = Vec::new();
        for number in 0..count {
            let (status, answer) = member.post("/api/channels/", json!({"name": number.to_string()})).await;
            assert_eq!(status, 201, "{answer}");
            made.push(text(&answer, "id").to_owned());
        }
        made
    };
    let (stalling, others) = (channels(&alice, STALLED).await, channels(&gina, 2 * STALLED).await);
    let behind = Behind::of(&app, &acme).await;
    let mut a = alice.connect().await;
    let mut g = gina.connect().await;

    behind.change("chat_channel", "BEGIN; LOCK TABLE {t}").await;
    for channel in &stalling {
        a.send_json(json!({"type": "subscribe", "channel": channel})).await;
    }
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{t}'::regclass"
        .replace("{t}", &format!("{}.chat_channel", behind.tenant));
    until("the joins wait for the table", async || {
        behind.sql.query_one(&waiting, &[]).await.expect("is SQL").get::<_, i64>(0) >= STALLED
    })
    .await;
    let (since, mut meanwhile) = (Instant::now(), 0);
    for channel in &others {
        g.acked(json!({"type": "subscribe", "channel": channel})).await;
        meanwhile += usize::from(!a.has_heard("error").await);
    }
    println!("beside {STALLED} joins that stalled, {} others took {:?}", others.len(), since.elapsed());
    println!("{meanwhile} of them were done before the first of the stalled ones was given up");
    assert!(meanwhile > 0, "they waited for one to be given up");
    a.expect_silence("subscribed").await;
    behind.sql.batch_execute("ROLLBACK").await.expect("is SQL");
    a.next_where("an answer", |frame| frame["type"] == "subscribed" || frame["type"] == "error").await;
}

/// The nodes look for the dismissed of all tenants each second.
#[tokio::test]
async fn a_tenant_whose_tables_are_locked_keeps_nobody_of_another_one_in() {
    const LOCKED: usize = 4;
    let cluster = Cluster::two_nodes().await;
    let globex = cluster.tenant("globex").await;
    let gina = globex.member("gina").await;
    let (mut here, mut there) = (gina.connect().await, gina.at(cluster.b.door()).connect().await);
    let of_globex = Behind::of(&cluster.a, &globex).await;
    let (mut locks, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..LOCKED {
        let acme = cluster.tenant("acme").await;
        let alice = acme.member("alice").await;
        sockets.extend([alice.connect().await, alice.at(cluster.b.door()).connect().await]);
        let behind = Behind::of(&cluster.a, &acme).await;
        behind.change("member", "BEGIN; LOCK TABLE {t}").await;
        locks.push(behind);
        let changed = format!("UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = '{}'", acme.slug);
        of_globex.sql.batch_execute(&changed).await.expect("is SQL");
    }
    let said = "failed to look for dismissed members; trying again every second";
    until("a locked tenant is noticed", async || !cluster.a.broker().events(said).is_empty()).await;

    let begun = Instant::now();
    cluster.a.settings().run(&["user", "disable", &globex.slug, "gina"]).await.success();
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.expect_close().await.code, 4002);
    }
    figure(
        "beside locked tenants a dismissed member was out after",
        begun.elapsed(),
        Goal::AtMost(Duration::from_secs(5)),
    );
    for (lock, socket) in locks.iter().zip(sockets.iter_mut().step_by(2)) {
        lock.sql.batch_execute("COMMIT").await.expect("is SQL");
        socket.acked(json!({"type": "ping"})).await;
    }
}
