//! Readers that do not keep up: what they cost the broker, and those who do keep up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use switchboard_tests::raw::{RawSocket, TEXT};
use switchboard_tests::{
    App, Channel, Closed, Goal, Latencies, Member, Settings, Socket, eventually_within, figure, mib, number,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

const SLOW: usize = 50;
const GOOD: usize = 10;

/// Messages of one run at least. Those who do not read have them all before them: what the kernel takes of them, what
/// the broker queues, and more.
const MESSAGES: usize = 500;

/// Messages after which nobody can have missed that a reader is slow. The kernel takes 4 MiB for a socket at most.
const TOO_MANY: usize = 2_500;

/// Close to the longest that the handler takes.
const MESSAGE: usize = 7_500;

/// Between two messages.
const PACE: Duration = Duration::from_millis(8);

/// How long the slow ones may take to be found out.
const PATIENCE: Duration = Duration::from_secs(300);

/// What waits for one socket at most.
const QUEUE: u64 = 1 << 20;

/// What else a broker may take in a minute's work: caches of the database, instances, heap that is not given back.
const MARGIN: u64 = 64 << 20;

struct Hall<'a> {
    app: &'a App,
    carol: Member,
    lobby: Channel,
    speaker: Socket,
    readers: Vec<Socket>,
    /// The `seq` of the last message.
    said: u64,
}

/// What one run gave.
struct Run {
    messages: usize,
    delivery: Latencies,
    /// The most memory that the broker had in use meanwhile, in bytes.
    memory: u64,
}

/// A broker that does not ping: whoever reads nothing answers no ping either, and is to be given up for the former.
async fn broker() -> App {
    App::start(Settings::embedded().with("SWITCHBOARD_PING_INTERVAL", "1h")).await
}

impl<'a> Hall<'a> {
    async fn open(app: &'a App) -> Self {
        let acme = app.tenant("acme").await;
        let (alice, bob, carol) = (acme.member("alice").await, acme.member("bob").await, acme.member("carol").await);
        let lobby = acme.channel("lobby", &[&alice, &bob, &carol]).await;
        let speaker = alice.join(&lobby).await;
        let readers = join_all((0..GOOD).map(|_| bob.join(&lobby))).await;
        Self { app, carol, lobby, speaker, readers, said: 0 }
    }

    /// Opens sockets whose clients will read nothing more than this greeting.
    async fn slow(&self, path: &str, greeting: &str) -> Vec<RawSocket> {
        let path = format!("{path}?token={}", self.carol.token);
        let open = async |_| {
            let mut socket = RawSocket::open_narrow(self.app.door().address(), &path, 4096).await;
            socket.text_with(greeting).await;
            socket
        };
        join_all((0..SLOW).map(open)).await
    }

    /// Says many things at an even pace, typing all the while, until it is enough; meanwhile everyone who reads hears all
    /// of it in order.
    async fn talk(&mut self, enough: impl Fn(usize) -> bool) -> Run {
        let Self { app, speaker, readers, said, .. } = self;
        let before = *said;
        let (sent, over) = (Mutex::new(Vec::new()), Mutex::new(None));
        let mut memory = 0;
        let talking = async {
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for n in 0.. {
                pace.tick().await;
                if enough(n) {
                    *over.lock().unwrap() = Some(n);
                    // One more, for readers who wait for a message to learn that there are no more.
                    return speaker.say("over").await;
                }
                speaker.send_json(json!({"type": "typing", "is_typing": n % 2 == 0})).await;
                sent.lock().unwrap().push(Instant::now());
                let ack = speaker.say(&"x".repeat(MESSAGE)).await;
                assert_eq!(number(&ack, "seq"), before + 1 + n as u64);
                memory = memory.max(app.broker().memory());
            }
            unreachable!("it is enough at some time")
        };
        let reading = async |reader: &mut Socket| {
            let mut delivery = Vec::new();
            for n in 0.. {
                let heard = reader.next_of("chat.message").await;
                let now = Instant::now();
                assert_eq!(number(&heard, "seq"), before + 1 + n as u64, "in order, each once");
                if *over.lock().unwrap() == Some(n) {
                    break;
                }
                delivery.push(now - sent.lock().unwrap()[n]);
            }
            reader.forget().await;
            delivery
        };
        let (last, heard) = join(talking, join_all(readers.iter_mut().map(reading))).await;
        *said = number(&last, "seq");
        let messages = sent.into_inner().unwrap().len();
        speaker.forget().await;
        Run { messages, delivery: heard.into_iter().flatten().collect(), memory }
    }
}

async fn dropped(app: &App) -> f64 {
    app.broker().metric("switchboard_sessions_dropped_total", &[r#"reason="slow_consumer""#]).await
}

#[tokio::test]
async fn fifty_readers_that_stop_reading_harm_nobody_else() {
    let app = broker().await;
    let mut hall = Hall::open(&app).await;
    let without = hall.talk(|said| said == MESSAGES).await;
    assert_eq!(dropped(&app).await, 0.0);

    let before = app.broker().memory();
    let mut slow = hall.slow(&format!("/ws/chat/{}/", hall.lobby.id), "channel.state").await;
    let (joined_at, all_given_up) = (hall.said, AtomicBool::new(false));
    let (with, ended) =
        join(hall.talk(|said| said >= TOO_MANY || (said >= MESSAGES && all_given_up.load(Ordering::Relaxed))), async {
            let all = async || dropped(&app).await >= SLOW as f64;
            eventually_within(PATIENCE, "all slow readers are given up", all).await;
            all_given_up.store(true, Ordering::Relaxed);
            // They read again, to see what they got and how it ended.
            join_all(slow.iter_mut().map(RawSocket::drain)).await
        })
        .await;

    let grown = with.memory.saturating_sub(before);
    let shed = app.broker().metric("switchboard_frames_shed_total", &[r#"reason="slow_consumer""#]).await;
    let saw_why = ended.iter().filter(|(_, closed)| closed.is_some()).count();
    let (shortest, longest) = ended
        .iter()
        .map(|(texts, _)| texts.len())
        .fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
    println!("{GOOD} readers alone, {} messages of {MESSAGE} bytes: {}", without.messages, without.delivery);
    println!("beside {SLOW} that do not read, {} messages: {}", with.messages, with.delivery);
    let ratio = with.delivery.per_mille(990).as_secs_f64() / without.delivery.per_mille(990).as_secs_f64();
    println!("memory: {} before, grown by at most {}; ephemeral frames shed: {shed}", mib(before), mib(grown));
    println!("slow readers had {shortest} to {longest} frames; {saw_why} of {SLOW} saw 4202, the others were cut off");

    assert!(grown <= SLOW as u64 * QUEUE + MARGIN, "{}", mib(grown));
    assert!(shed > 0.0, "what is ephemeral goes first");
    for (texts, closed) in ended {
        if let Some(closed) = closed {
            assert_eq!(closed, Closed { code: 4202, reason: "slow consumer".to_owned() });
        }
        let frames = texts.iter().map(|text| serde_json::from_str::<Value>(text).expect("whole frames"));
        let seqs: Vec<u64> =
            frames.filter(|frame| frame["type"] == "chat.message").map(|frame| number(&frame, "seq")).collect();
        let expected: Vec<u64> = (joined_at + 1..).take(seqs.len()).collect();
        assert_eq!(seqs, expected, "no durable frame is left out before the end");
    }
    assert_eq!(dropped(&app).await, SLOW as f64, "and nobody else");
    figure("p99 of deliveries beside slow readers / alone", ratio, Goal::AtMost(2.0));
}

#[tokio::test]
async fn fifty_readers_that_ask_for_much_and_never_read_it_cost_a_mebibyte_each() {
    /// Answers of up to 256 KiB each that one reader asks for.
    const ASKED: usize = 60;
    let app = broker().await;
    let mut hall = Hall::open(&app).await;
    hall.talk(|said| said == 50).await;
    let before = app.broker().memory();
    let mut slow = hall.slow("/ws/", "welcome").await;
    let ask = json!({"type": "subscribe", "channel": hall.lobby.id}).to_string();
    join_all(slow.iter_mut().map(async |socket| {
        for _ in 0..ASKED {
            socket.send(TEXT, ask.as_bytes()).await;
        }
    }))
    .await;

    let mut most = before;
    let began = Instant::now();
    eventually_within(PATIENCE, "all slow readers are given up", async || {
        most = most.max(app.broker().memory());
        dropped(&app).await >= SLOW as f64
    })
    .await;
    let took = began.elapsed();
    let spoke = Instant::now();
    hall.speaker.say("and on it goes").await;
    println!("{SLOW} readers that asked for {ASKED} states each and read none were given up within {took:.1?}");
    println!("memory: {} before, grown by at most {}", mib(before), mib(most - before));
    println!("a message beside them took {:.1?}", spoke.elapsed());
    assert!(most - before <= SLOW as u64 * QUEUE + MARGIN, "{}", mib(most - before));
    assert_eq!(dropped(&app).await, SLOW as f64, "and nobody else");
}
