//! One way for a message: what is queued is stored, told in order and answered in order, whoever still waits for it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};
use switchboard_tests::{
    App, Channel, Cluster, Database, Goal, Member, Settings, Socket, Tenant, eventually, figure, figures_are_held,
    number, plugin, text,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_postgres::Client;

struct Office {
    app: App,
    acme: Tenant,
    alice: Member,
    lobby: Channel,
    bobs: Socket,
    database: Database,
}

impl Office {
    async fn open() -> Self {
        Self::open_with(|settings| settings).await
    }

    async fn open_with(more: impl FnOnce(Settings) -> Settings) -> Self {
        let database = Database::create().await;
        let app = App::start(more(Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &database.url()))).await;
        for plugin in ["chat-message", "typing", "message-read"] {
            app.operator().be_patient_with(plugin).await;
        }
        let acme = app.tenant("acme").await;
        let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
        let lobby = acme.channel("lobby", &[&alice, &bob]).await;
        let bobs = bob.join(&lobby).await;
        Self { app, acme, alice, lobby, bobs, database }
    }

    /// Has a transaction of somebody else hold the channel, so that nothing of it can be stored.
    async fn hold(&self) -> Held {
        let (holder, watcher) = (self.connect().await, self.connect().await);
        let row = format!("chat_channel WHERE id::text = '{}' FOR UPDATE", self.lobby.id);
        holder.batch_execute(&format!("BEGIN; SELECT FROM \"tenant_{}\".{row}", self.acme.slug)).await.unwrap();
        Held { holder, watcher }
    }

    async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.database.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Waits until a plugin has been called so often.
    async fn called(&self, plugin: &str, times: f64) {
        let labels = [format!("plugin=\"{plugin}\"")];
        let labels = labels.each_ref().map(String::as_str);
        let metric = "switchboard_plugin_calls_total";
        eventually("the plugin is called", async || self.app.broker().metric(metric, &labels).await >= times).await;
    }

    async fn repairs(&self) -> f64 {
        self.app.broker().metric("switchboard_gap_repairs_total", &[]).await
    }
}

struct Held {
    holder: Client,
    watcher: Client,
}

impl Held {
    /// Waits until something is being stored and waits for the row.
    async fn is_waited_for(&self) {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("it is being stored", async || {
            self.watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
    }

    async fn release(self) {
        self.holder.batch_execute("ROLLBACK").await.unwrap();
    }
}

/// Sends a request and leaves the answer to whoever comes.
async fn post(member: &Member, app: &App, path: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        member.token,
        body.len()
    );
    let mut stream = TcpStream::connect(app.door().address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn what_a_client_asked_for_that_hangs_up_is_stored_and_told_once_on_postgres() {
    let mut office = Office::open().await;
    let mut alices = office.alice.join(&office.lobby).await;
    let first = alices.say("to be read").await["message_id"].clone();
    office.bobs.next_of("chat.message").await;

    let held = office.hold().await;
    let said = post(&office.alice, &office.app, &office.lobby.path("messages/"), &json!({"message": "bye"})).await;
    held.is_waited_for().await;
    let read = post(&office.alice, &office.app, &office.lobby.path("read/"), &json!({"message_id": first})).await;
    office.called("message-read", 1.0).await;
    drop((said, read));
    held.release().await;
    let heard = office.bobs.next_of("chat.message").await;
    assert_eq!((&heard["message"]["content"], &heard["seq"]), (&json!("bye"), &json!(2)));
    let mark = office.bobs.next_of("message.read").await;
    assert_eq!(mark["message_id"], first);
    alices.say("and nothing twice").await;
    assert_eq!(office.bobs.next_of("chat.message").await["message"]["content"], "and nothing twice");
    assert_eq!(office.repairs().await, 0.0, "nobody had to look for it in the store");
}

#[tokio::test]
async fn what_is_read_has_in_it_what_the_same_socket_sent_before_on_postgres() {
    let office = Office::open_with(|settings| settings.with("SWITCHBOARD_PLUGIN", plugin("hostile"))).await;
    office.app.operator().be_patient_with("hostile").await;
    let mut alices = office.alice.join(&office.lobby).await;
    let held = office.hold().await;
    alices.send_json(json!({"type": "chat.message", "message": "not stored yet"})).await;
    held.is_waited_for().await;
    alices.send_json(json!({"type": "hostile.last"})).await;
    office.called("chat-message", 1.0).await;
    held.release().await;
    let answers = |frame: &Value| frame["message"]["content"].as_str().is_some_and(|text| text.starts_with("last was"));
    let answer = alices.next_where("the answer", answers).await;
    assert_eq!(answer["message"]["content"], "last was not stored yet");

    const PAIRS: usize = 50;
    for n in 0..PAIRS {
        alices.send_json(json!({"type": "chat.message", "message": format!("message {n}")})).await;
        alices.send_json(json!({"type": "hostile.last"})).await;
    }
    for n in 0..PAIRS {
        let answer = alices.next_where("the answer", answers).await;
        assert_eq!(answer["message"]["content"], format!("last was message {n}"));
    }
}

#[tokio::test]
async fn a_signal_overtakes_no_message_of_the_same_socket_on_postgres() {
    let mut office = Office::open().await;
    let mut alices = office.alice.join(&office.lobby).await;
    for round in 1..=5 {
        let held = office.hold().await;
        alices.send_json(json!({"type": "chat.message", "message": "first"})).await;
        held.is_waited_for().await;
        alices.send_json(json!({"type": "typing", "is_typing": true})).await;
        office.called("typing", f64::from(round)).await;
        held.release().await;
        let either = |frame: &Value| frame["type"] == "chat.message" || frame["type"] == "typing";
        for expected in ["chat.message", "typing"] {
            let heard = office.bobs.next_where("a message and a signal", either).await;
            assert_eq!(heard["type"], expected, "round {round}");
        }
    }
}

/// Each socket sends as fast as its acks come, many ahead, and half of them on the other node.
#[tokio::test]
async fn a_healthy_cluster_repairs_nothing_and_each_sender_gets_its_own_message_with_its_id() {
    const SOCKETS: usize = 6;
    const AHEAD: usize = 32;
    let messages = if figures_are_held() { 20_000 } else { 4_000 };
    let cluster = Cluster::two_nodes().await;
    let acme = cluster.tenant("acme").await;
    let alice = acme.member("alice").await;
    let lobby = acme.channel("lobby", &[&alice]).await;
    let doors = [cluster.a.door(), cluster.b.door()];
    let mut sockets = Vec::new();
    for n in 0..SOCKETS {
        sockets.push(alice.at(doors[n % 2]).join(&lobby).await);
    }
    let talks = sockets.into_iter().enumerate().map(async |(speaker, mut socket)| {
        let own = messages / SOCKETS;
        let (mut sent, mut acked, mut echoes, mut seqs) = (0, 0, BTreeMap::new(), Vec::new());
        while acked < own || seqs.len() < own * SOCKETS {
            while sent < own && sent - acked < AHEAD {
                let id = format!("{speaker}-{sent}");
                socket.send_json(json!({"type": "chat.message", "id": id, "message": id})).await;
                sent += 1;
            }
            let frame = socket.next().await;
            match text(&frame, "type") {
                "ack" => {
                    assert_eq!(frame["id"], format!("{speaker}-{acked}"), "acks come in the order of the frames");
                    acked += 1;
                }
                "chat.message" => {
                    seqs.push(number(&frame, "seq"));
                    let said = text(&frame["message"], "content").to_owned();
                    if said.starts_with(&format!("{speaker}-")) {
                        assert_eq!(frame["client_id"], said, "{frame}");
                        echoes.insert(said, ());
                    }
                }
                "error" => panic!("{frame}"),
                _ => {}
            }
        }
        assert_eq!(echoes.len(), own);
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "each once and in order");
    });
    join_all(talks).await;
    for (name, node) in [("a", &cluster.a), ("b", &cluster.b)] {
        let repairs = node.broker().metric("switchboard_gap_repairs_total", &[]).await;
        // On a machine that stands still for 50 ms, a message of the other node is late enough to be looked for.
        figure(&format!("repairs of node {name} for {messages} messages"), repairs, Goal::AtMost(0.0));
    }
}
