//! What a plugin that means harm costs the others: its own tenant's events are refused, and that is all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use switchboard_tests::journal::{Doors, Journal, Pace};
use switchboard_tests::{
    App, Channel, Database, Goal, Member, Settings, Socket, Tenant, eventually, figure, figures_are_held, mib, plugin,
};
use tokio::time::Instant;

/// What the hostile plugin does, and the error that its sender gets for it.
const HARM: [(&str, u64); 9] = [
    ("hostile.loop", 201),
    ("hostile.ask", 201),
    ("hostile.grow", 202),
    ("hostile.recurse", 202),
    ("hostile.trap", 202),
    ("hostile.many", 202),
    ("hostile.huge", 202),
    ("hostile.alias", 202),
    ("hostile.random", 202),
];

/// How many sockets of the hostile tenant do it at once, one event after the other.
const ATTACKERS: usize = 8;

/// Acks of the other tenant while harm is done, about a hundred a second.
const ACKS: u64 = 100;

/// Acks of one measurement, where figures are held to their goals.
const MEASURED: u64 = 400;

/// What a broker may take more for good: caches that fill with work, heap that is not given back.
const MARGIN: u64 = 32 << 20;

struct Neighbours {
    app: App,
    attackers: Vec<Socket>,
    good: Tenant,
    alice: Member,
}

impl Neighbours {
    async fn move_in() -> Self {
        let app = App::start(with_hostile(Settings::embedded())).await;
        let (evil, good) = (app.tenant("evil").await, app.tenant("good").await);
        let eve = evil.member("eve").await;
        let den = evil.channel("den", &[&eve]).await;
        let attackers = join_all((0..ATTACKERS).map(|_| eve.join(&den))).await;
        let alice = good.member("alice").await;
        Self { app, attackers, good, alice }
    }

    /// What the good tenant finds while all attackers do harm.
    async fn beside_harm(&mut self, kind: &str, code: u64) -> Beside {
        let over = AtomicBool::new(false);
        let mut attackers = std::mem::take(&mut self.attackers);
        let attacks = join_all(attackers.iter_mut().map(|attacker| attack(attacker, kind, code, &over)));
        let measured = self.beside(|| over.store(true, Ordering::Relaxed));
        let (events, beside) = join(attacks, measured).await;
        self.attackers = attackers;
        let (events, memory) = (events.iter().sum::<usize>(), mib(self.app.broker().memory()));
        let Beside { p99, processors } = &beside;
        println!("{kind}: {events} events, all refused; p99 {p99:.1?}, {processors:.2} processors; {memory}");
        beside
    }

    /// What the good tenant finds until it is told so.
    async fn beside(&self, told: impl FnOnce()) -> Beside {
        let (began, worked) = (Instant::now(), self.app.broker().worked());
        let p99 = self.p99().await;
        let worked = self.app.broker().worked() - worked;
        told();
        Beside { p99, processors: worked.as_secs_f64() / began.elapsed().as_secs_f64() }
    }

    /// How long the 99th of 100 acks takes the good tenant, while something happens.
    async fn p99(&self) -> Duration {
        let room = self.good.channel("room", &[&self.alice]).await;
        let mut journal = Journal::of(&room);
        let doors = Doors::new([self.app.door()]);
        for _ in 0..2 {
            journal.publisher(&self.alice, &doors, Pace::STEADY);
        }
        journal.acks(if figures_are_held() { MEASURED } else { ACKS }).await;
        let figures = journal.verify(&self.alice).await;
        assert_eq!((figures.refused, figures.unknown), (0, 0), "{figures}");
        figure("times that another tenant was told to try again", figures.retries, Goal::AtMost(0));
        figures.acks.per_mille(990)
    }
}

/// What was found beside a load.
struct Beside {
    p99: Duration,
    /// How much of one processor the broker used meanwhile.
    processors: f64,
}

/// Keeps so much of the machine busy as long as it is there: a plain program that does nothing for anybody.
struct Load(Arc<AtomicBool>);

impl Load {
    fn of(processors: f64) -> Self {
        const ROUND: Duration = Duration::from_millis(10);
        let over = Arc::new(AtomicBool::new(false));
        let mut left = processors;
        while left > 0.0 {
            let (share, over) = (left.min(1.0), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    while began.elapsed() < ROUND.mul_f64(share) {
                        std::hint::spin_loop();
                    }
                    std::thread::sleep(ROUND.saturating_sub(began.elapsed()));
                }
            });
            left -= share;
        }
        Self(over)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does harm until told to stop; each event is answered with an error.
async fn attack(attacker: &mut Socket, kind: &str, code: u64, over: &AtomicBool) -> usize {
    let mut events = 0;
    while !over.load(Ordering::Relaxed) || events == 0 {
        let error: Value = attacker.refused(json!({"type": kind})).await;
        assert!(is_for_harm(&error, code), "{kind}: {error}");
        events += 1;
    }
    events
}

/// Whether this is the error for a harm. Where others keep the processors busy, its time may be over before it is done.
fn is_for_harm(error: &Value, code: u64) -> bool {
    error["code"] == code || error["code"] == 201
}

/// Where figures are held to their goals each harm is compared with a load that keeps the processors as busy, three times at
/// most, since what else runs on the machine may double a latency as well.
#[tokio::test]
async fn a_hostile_plugin_is_stopped_and_others_do_not_notice() {
    const AT_MOST: f64 = 2.0;
    let mut neighbours = Neighbours::move_in().await;
    let alone = neighbours.beside(|| ()).await;
    println!("alone: p99 {:.1?}, {:.2} processors", alone.p99, alone.processors);
    let before = neighbours.app.broker().memory();
    for (kind, code) in HARM {
        let mut ratios: Vec<f64> = Vec::new();
        while ratios.is_empty()
            || (figures_are_held() && ratios.len() < 3 && ratios.iter().all(|ratio| *ratio > AT_MOST))
        {
            let harm = neighbours.beside_harm(kind, code).await;
            if !figures_are_held() {
                break;
            }
            let _load = Load::of(harm.processors - alone.processors);
            let beside = neighbours.beside(|| ()).await;
            let ratio = harm.p99.as_secs_f64() / beside.p99.as_secs_f64();
            println!("{kind}: p99 {:.1?} beside a load of the same size, ratio {ratio:.2}", beside.p99);
            ratios.push(ratio);
        }
        if let Some(least) = ratios.into_iter().reduce(f64::min) {
            figure(&format!("p99 of acks beside {kind} / beside a load"), least, Goal::AtMost(AT_MOST));
        }
    }
    let most = before + MARGIN;
    eventually("the memory is back to where it was", async || neighbours.app.broker().memory() <= most).await;
    println!("memory: {} before, {} after", mib(before), mib(neighbours.app.broker().memory()));
}

#[tokio::test]
async fn a_failed_event_leaves_nothing_embedded() {
    leaves_nothing(&App::start(with_hostile(Settings::embedded())).await).await;
}

#[tokio::test]
async fn a_failed_event_leaves_nothing_on_postgres() {
    let database = Database::create().await;
    let settings = Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &database.url());
    leaves_nothing(&App::start(with_hostile(settings)).await).await;
}

/// Whether its handler traps, or its last effect is one that cannot be applied.
async fn leaves_nothing(app: &App) {
    app.operator().be_patient_with("hostile").await;
    let acme = app.tenant("acme").await;
    let (alice, bob) = (acme.member("alice").await, acme.member("bob").await);
    let lobby = acme.channel("lobby", &[&alice, &bob]).await;
    let (mut socket, mut witness) = (alice.join(&lobby).await, bob.join(&lobby).await);
    let first = bob.join(&lobby).await.say("as it was").await;
    witness.next_of("chat.message").await;
    let before = stored(&alice, &lobby).await;

    for (kind, code) in [("hostile.trap", 202), ("hostile.loop", 201), ("hostile.grow", 202), ("hostile.torn", 107)] {
        let error = socket.refused(json!({"type": kind, "message_id": first["message_id"]})).await;
        assert_eq!(error["code"], code, "{kind}: {error}");
        assert_eq!(stored(&alice, &lobby).await, before, "{kind}");
    }
    let ack = socket.acked(json!({"type": "hostile.look"})).await;
    assert_eq!(ack["seq"], 2, "no number was used up");
    // That someone came may be told late.
    let heard = witness.next_where("anything that was said", |frame| frame["type"] != "user.join").await;
    assert_eq!((&heard["type"], &heard["message"]["content"]), (&json!("chat.message"), &json!("whole")), "{heard}");
}

/// All of the channel's history, with who has read what.
async fn stored(member: &Member, channel: &Channel) -> Value {
    let (status, page) = member.get(&channel.path("messages/")).await;
    assert_eq!(status, 200, "{page}");
    page
}

fn with_hostile(settings: Settings) -> Settings {
    settings.with("SWITCHBOARD_PLUGIN", plugin("hostile"))
}
