//! A disk that is full: nothing is acked that is not kept, everyone is told, and room is all it takes to go on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use switchboard_tests::servers::PrivatePostgres;
use switchboard_tests::{App, Channel, Member, Settings, Signal, SmallDisk, Socket, eventually, number, text};
use tokio::time::Instant;

/// More messages than fit into what a store has set aside before the disk was full.
const ENOUGH: usize = 5_000;

/// Characters of a message: a few fill a page, and none is long enough to be compressed.
const MESSAGE: usize = 1_800;

/// What was said, and what became of it.
struct Diary {
    channel: Channel,
    next: usize,
    /// What was acked, by its `seq`.
    acked: BTreeMap<u64, String>,
    /// What was refused and not acked since.
    refused: Vec<String>,
    /// What had been stored although it was refused, when it was said again.
    stored_all_the_same: usize,
    /// The longest wait for an answer.
    slowest: Duration,
}

impl Diary {
    fn new(channel: &Channel) -> Self {
        Self {
            channel: channel.clone(),
            next: 1,
            acked: BTreeMap::new(),
            refused: Vec::new(),
            stored_all_the_same: 0,
            slowest: Duration::ZERO,
        }
    }

    /// Says the next thing. `false`: it was refused, for lack of room and no other reason.
    async fn say(&mut self, socket: &mut Socket) -> bool {
        let name = format!("entry {}", self.next);
        self.next += 1;
        self.say_this(socket, name).await
    }

    async fn say_this(&mut self, socket: &mut Socket, name: String) -> bool {
        let message = format!("{name} {}", "x".repeat(MESSAGE));
        let asked = Instant::now();
        let frame = json!({"type": "chat.message", "id": name, "message": message});
        let answer = socket.request_in_time(frame).await;
        self.slowest = self.slowest.max(asked.elapsed());
        if answer["type"] == "ack" {
            self.stored_all_the_same += usize::from(answer["duplicate"] == true);
            assert_eq!(self.acked.insert(number(&answer, "seq"), name), None, "{answer}");
            return true;
        }
        assert_eq!((&answer["code"], &answer["name"]), (&json!(108), &json!("unavailable")), "{answer}");
        assert_eq!(answer["retryable"], true, "{answer}");
        self.refused.push(name);
        false
    }

    /// Says one thing after the other until the disk is found full, and a few more.
    async fn say_until_refused(&mut self, socket: &mut Socket) {
        let before = self.acked.len();
        while self.say(socket).await {
            assert!(self.acked.len() < before + ENOUGH, "the disk is not full after {ENOUGH} messages");
        }
        for _ in 0..5 {
            self.say(socket).await;
        }
    }

    /// Waits until something is acked again, and says again what was refused.
    async fn go_on(&mut self, socket: &mut Socket) {
        let (freed, refused) = (Instant::now(), std::mem::take(&mut self.refused));
        eventually("messages are acked again", async || self.say(socket).await).await;
        println!("acked again {:.1?} after there was room", freed.elapsed());
        for name in std::mem::take(&mut self.refused).into_iter().chain(refused) {
            assert!(self.say_this(socket, name.clone()).await, "there is room, but not for {name}");
        }
        println!("of what was refused, {} had been stored all the same", self.stored_all_the_same);
    }

    /// All that was acked is there under its number. Beside it there may be what was refused, and nothing else.
    async fn holds(&self, member: &Member) {
        let mut stored: BTreeMap<u64, String> = BTreeMap::new();
        for message in member.history(&self.channel).await {
            let content = text(&message, "content");
            let name = content[..content.len() - MESSAGE].trim_end().to_owned();
            assert_eq!(stored.insert(number(&message, "seq"), name), None, "each number once");
        }
        for (seq, name) in &self.acked {
            assert_eq!(stored.remove(seq).as_ref(), Some(name), "an acked message is missing: {name}, {seq}");
        }
        let foreign: Vec<_> = stored.values().filter(|name| !self.refused.contains(name)).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }

    /// Everything has been told in order, up to the last message.
    async fn was_heard_by(&self, listener: &mut Socket) {
        for seq in 1..=self.acked.last_key_value().map_or(0, |(seq, _)| *seq) {
            assert_eq!(number(&listener.next_of("chat.message").await, "seq"), seq);
        }
    }

    fn print(&self, ballast: u64) {
        let (acked, refused) = (self.acked.len(), self.refused.len());
        println!("{ballast} bytes of ballast: {acked} acked, {refused} refused, each within {:.1?}", self.slowest);
    }
}

#[tokio::test]
async fn a_full_disk_under_sqlite_refuses_what_it_cannot_keep_and_needs_nothing_but_room() {
    let disk = SmallDisk::mount(16);
    let app = App::start(Settings::embedded().on(&disk)).await;
    fill_and_go_on(app, &disk, "database or disk is full", async || disk.make_room()).await;
}

#[tokio::test]
async fn a_full_disk_under_the_tables_of_postgres_is_no_other() {
    let disk = SmallDisk::mount(48);
    let postgres = PrivatePostgres::with_tables_on(&disk).await;
    let app = App::start(Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &postgres.url())).await;
    fill_and_go_on(app, &disk, "No space left on device (53100)", async || disk.make_room()).await;
}

/// Postgres does not go on without its log: it panics and recovers, as long as it has room for that. When it has given
/// up, an operator starts it again.
#[tokio::test]
async fn a_full_disk_under_the_log_of_postgres_is_an_outage() {
    let disk = SmallDisk::mount(24);
    let mut postgres = PrivatePostgres::with_log_on(&disk).await;
    let app = App::start(Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &postgres.url())).await;
    fill_and_go_on(app, &disk, "failed to reach the database", async || {
        disk.make_room();
        let panics = postgres.log().matches("PANIC:").count();
        println!("Postgres panicked {panics} times; it had given up: {}", postgres.revive().await);
    })
    .await;
}

/// Says things until the disk under the store is full, and after there is room again; twice, and the second time the
/// broker is killed before there is.
async fn fill_and_go_on(mut app: App, disk: &SmallDisk, logged: &str, mut make_room: impl AsyncFnMut()) {
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let mut diary = Diary::new(&lobby);
    for _ in 0..20 {
        assert!(diary.say(&mut a).await, "there is room");
    }

    let ballast = disk.fill();
    diary.say_until_refused(&mut a).await;
    diary.print(ballast);
    app.broker().logged(logged).await;
    let log = app.broker().stderr();
    assert!(!log.contains("panicked"), "{log}");

    make_room().await;
    diary.go_on(&mut a).await;
    diary.holds(&bob).await;
    diary.was_heard_by(&mut b).await;

    let ballast = disk.fill();
    diary.say_until_refused(&mut a).await;
    diary.print(ballast);
    app.kill().await;
    make_room().await;
    app.start_again().await;
    let (alice, bob) = (alice.at(app.door()), bob.at(app.door()));
    diary.holds(&bob).await;
    let mut a = alice.join(&lobby).await;
    diary.go_on(&mut a).await;
    diary.holds(&bob).await;
    assert_eq!(app.stop(Signal::Terminate).await.code(), Some(0));
}
