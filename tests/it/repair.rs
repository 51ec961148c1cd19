//! What the bus loses is found in the store, and a store that was set back is not passed over in silence.
//!
//! A message that no bus carries is made for real: it is written into Postgres, as if a node had stored it and died before
//! it could tell.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_tests::{App, Channel, Cluster, Door, Member, Socket, Tenant, number};
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

/// Within what a lost message is to arrive: a pause of two seconds, and what a busy machine takes.
const REPAIRED_WITHIN: Duration = Duration::from_secs(5);

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

/// A metric of one node.
async fn counted(app: &App, name: &str) -> u64 {
    let (_, text) = Door::new(app.broker().admin_address()).get("/metrics", None).await;
    let lines = text.as_str().expect("the text format").lines();
    lines.filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).sum()
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
        for (name, socket) in [("a", &mut a), ("b", &mut b)] {
            let (said, took) = heard(socket, &lost).await;
            println!("a lost last message was at node {name} after {took:?}");
            assert!(took < REPAIRED_WITHIN, "{took:?}");
            assert_eq!(number(&said, "seq"), round + 2);
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
