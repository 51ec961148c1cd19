//! A disk that is full: nothing is acked that is not kept, everyone is told, and room is all it takes to go on.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_tests::{App, Channel, Member, Settings, Signal, SmallDisk, Socket, eventually, number};
use tokio::time::Instant;

/// More than fit into what a store has set aside before the disk was full.
const ENOUGH: usize = 3_000;

/// What was said, and what became of it.
struct Diary {
    channel: Channel,
    next: usize,
    /// The contents that were acked, each with its `seq`.
    acked: Vec<(u64, String)>,
    /// The ids, which are the contents too, that were not.
    refused: Vec<String>,
    /// The longest wait for an answer.
    longest: Duration,
}

impl Diary {
    fn new(channel: &Channel) -> Self {
        Self { channel: channel.clone(), next: 1, acked: Vec::new(), refused: Vec::new(), longest: Duration::ZERO }
    }

    /// Says the next thing. `Err`: the error that came instead of an ack.
    async fn say(&mut self, socket: &mut Socket) -> Result<(), Value> {
        let content = format!("entry {} {}", self.next, "x".repeat(2_000));
        self.next += 1;
        self.say_again(socket, content).await
    }

    async fn say_again(&mut self, socket: &mut Socket, content: String) -> Result<(), Value> {
        let id = content.chars().take(16).collect::<String>();
        let asked = Instant::now();
        let answer = socket.request(json!({"type": "chat.message", "id": id, "message": content})).await;
        self.longest = self.longest.max(asked.elapsed());
        if answer["type"] == "ack" {
            assert_eq!(answer["duplicate"], false, "what was refused was not stored: {answer}");
            self.acked.push((number(&answer, "seq"), content));
            Ok(())
        } else {
            self.refused.push(content);
            Err(answer)
        }
    }

    /// Says one thing after the other until one is refused.
    async fn say_until_refused(&mut self, socket: &mut Socket) -> Value {
        for _ in 0..ENOUGH {
            if let Err(error) = self.say(socket).await {
                return error;
            }
        }
        panic!("the disk is not full after {ENOUGH} messages");
    }

    /// What was acked is what is there, and nothing else.
    async fn matches(&self, member: &Member) {
        let stored: Vec<(u64, String)> = member
            .history(&self.channel)
            .await
            .iter()
            .map(|message| (number(message, "seq"), message["content"].as_str().expect("a text").to_owned()))
            .collect();
        let brief =
            |all: &[(u64, String)]| all.iter().map(|(seq, text)| (*seq, text[..16].to_owned())).collect::<Vec<_>>();
        assert_eq!(brief(&stored), brief(&self.acked));
    }
}

fn is_clear(error: &Value) {
    assert_eq!((&error["code"], &error["name"]), (&json!(108), &json!("unavailable")), "{error}");
    assert_eq!(error["retryable"], true, "{error}");
    assert!(error["retry_after_ms"].is_u64(), "{error}");
}

#[tokio::test]
async fn a_full_disk_under_sqlite_refuses_what_it_cannot_keep_and_needs_nothing_but_room() {
    let disk = SmallDisk::mount(16);
    let app = App::start(Settings::embedded().at(&disk.path().join("data"))).await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut a, mut b) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let mut diary = Diary::new(&lobby);
    for _ in 0..20 {
        diary.say(&mut a).await.expect("there is room");
    }

    let ballast = disk.fill();
    is_clear(&diary.say_until_refused(&mut a).await);
    for _ in 0..20 {
        if let Err(error) = diary.say(&mut a).await {
            is_clear(&error);
        }
    }
    println!(
        "{ballast} bytes of ballast; {} messages acked and {} refused, each within {:.1?}",
        diary.acked.len(),
        diary.refused.len(),
        diary.longest
    );
    // Whoever reads is served all the same.
    diary.matches(&bob).await;
    assert_eq!(number(&bob.join(&lobby).await.greeting, "seq"), diary.acked.len() as u64);
    let log = app.broker().stderr();
    assert!(log.contains("database or disk is full"), "{log}");

    disk.make_room();
    let freed = Instant::now();
    let refused = std::mem::take(&mut diary.refused);
    eventually("there is room again", async || diary.say(&mut a).await.is_ok()).await;
    println!("acked again {:.1?} after there was room", freed.elapsed());
    diary.refused.clear();
    for content in refused {
        diary.say_again(&mut a, content).await.expect("what was refused may be sent again");
    }
    diary.matches(&bob).await;
    for (seq, _) in &diary.acked {
        assert_eq!(number(&b.next_of("chat.message").await, "seq"), *seq, "and it was told in order");
    }

    // It is killed while the disk is full. Another can start once there is room for SQLite's own index.
    disk.fill();
    is_clear(&diary.say_until_refused(&mut a).await);
    let app = app.crash_and(|| disk.make_room()).await;
    diary.matches(&bob.at(app.door())).await;
    let mut a = alice.at(app.door()).join(&lobby).await;
    diary.say(&mut a).await.expect("there is room");
    diary.matches(&bob.at(app.door())).await;
    assert_eq!(app.stop(Signal::Terminate).await.code(), Some(0));
}
