//! A handler that is swapped again and again under load: nobody is cut off, nothing is lost, and each message is
//! handled by one generation.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use switchboard_tests::journal::{Doors, Figures, Journal, Pace};
use switchboard_tests::{
    Channel, Cluster, Goal, Member, Operator, Tenant, figure, figures_are_held, list, number, plugin, plugin_with, text,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Publishers at each node, of some forty messages a second each.
const PUBLISHERS: usize = 7;

/// Acks without swaps, to compare with.
const CALM: u64 = 4_000;

/// Swaps in a run of all tests.
const SWAPS: u64 = 60;

/// How long swaps go on, ten a second, where figures are held to their goals.
const SWAPPED: Duration = Duration::from_secs(30);

const SWAP_EVERY: Duration = Duration::from_millis(100);

/// Acks from one swap to the next, of which at least one is for a message that was taken in after it: no more than a
/// message of each publisher was under way.
const BETWEEN: u64 = 2 * PUBLISHERS as u64 + 1;

struct Scene {
    cluster: Cluster,
    operator: Operator,
    acme: Tenant,
    alice: Member,
    bob: Member,
}

impl Scene {
    /// Has both nodes' publishers speak in a channel of its own while something is done, and holds all of it against the
    /// history.
    async fn speak_while(&self, what: impl AsyncFnOnce(&Journal)) -> (Figures, Channel) {
        let channel = self.acme.channel("room", &[&self.alice, &self.bob]).await;
        let mut journal = Journal::of(&channel);
        for (member, node) in [(&self.alice, &self.cluster.a), (&self.bob, &self.cluster.b)] {
            let doors = Doors::new([node.door()]);
            journal.reader(member, &doors);
            for _ in 0..PUBLISHERS {
                journal.publisher(member, &doors, Pace::STEADY);
            }
        }
        journal.acks_each(1).await;
        what(&journal).await;
        (journal.verify(&self.alice).await, channel)
    }
}

#[tokio::test]
async fn a_handler_swapped_under_load_loses_nothing_and_cuts_nobody_off() {
    let scene = Scene::open().await;
    let mut swaps = 0;
    let swapping = async |journal: &Journal| {
        while swaps < SWAPS {
            scene.swap(swaps).await;
            swaps += 1;
            journal.acks(BETWEEN).await;
        }
    };
    let (figures, channel) = scene.speak_while(swapping).await;
    println!("{swaps} swaps: {figures}");
    let generations = scene.nothing_is_lost(&figures, &channel).await;
    // The first one, and each that a swap put in force on both nodes before the next.
    assert!(generations > swaps, "{generations} generations handled a message");
    if figures_are_held() {
        scene.ten_times_a_second().await;
    }
}

impl Scene {
    async fn open() -> Self {
        let cluster = Cluster::two_nodes().await;
        let operator = cluster.a.operator();
        let acme = cluster.tenant("acme").await;
        let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(cluster.b.door()));
        operator.deploy(plugin("stamp")).await;
        operator.deploy(plugin_with("stamp", "second")).await;
        operator.activate("stamp", "1.0.0", &acme, "first of all").await;
        Self { cluster, operator, acme, alice, bob }
    }

    /// Puts a new generation in force on both nodes.
    async fn swap(&self, number: u64) {
        let version = if number.is_multiple_of(2) { "2.0.0" } else { "1.0.0" };
        self.operator.activate("stamp", version, &self.acme, &format!("swap {number}")).await;
    }

    /// Says how many generations handled the messages.
    async fn nothing_is_lost(&self, figures: &Figures, channel: &Channel) -> u64 {
        assert_eq!((figures.unknown, figures.refused), (0, 0), "every message was acked");
        assert_eq!(figures.duplicates, 0, "none was stored twice");
        figure("messages that had to be sent again", figures.retries, Goal::AtMost(0));
        assert_eq!((figures.publisher_reconnects, figures.reader_reconnects), (0, 0), "nobody was cut off");
        let generations = stamps(&self.alice, channel).await;
        let handled: u64 = generations.values().sum();
        assert_eq!(handled, figures.acked, "each by exactly one generation");
        println!("{handled} messages handled by {} generations", generations.len());
        generations.len() as u64
    }

    /// What else runs on the machine may double a latency or hold up a swap as well, so there are three attempts.
    async fn ten_times_a_second(&self) {
        const AT_MOST: f64 = 2.0;
        const AT_LEAST: f64 = 9.0;
        let (mut ratio, mut rate) = self.compare().await;
        for _ in 1..3 {
            if ratio > AT_MOST || rate < AT_LEAST {
                (ratio, rate) = self.compare().await;
            }
        }
        figure("swaps a second", rate, Goal::AtLeast(AT_LEAST));
        figure("p99 of acks with swaps / without", ratio, Goal::AtMost(AT_MOST));
    }

    /// The ratio of the 99th of 100 acks with swaps and without, and how many swaps there were in a second.
    async fn compare(&self) -> (f64, f64) {
        let (calm, _) = self.speak_while(async |journal| journal.acks(CALM).await).await;
        println!("without swaps: {calm}");
        let (begun, mut swaps, mut seconds) = (Instant::now(), 0, 0.0);
        let swapping = async |_: &Journal| {
            let mut pace = interval(SWAP_EVERY);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while begun.elapsed() < SWAPPED {
                pace.tick().await;
                self.swap(swaps).await;
                swaps += 1;
            }
            seconds = begun.elapsed().as_secs_f64();
        };
        let (figures, channel) = self.speak_while(swapping).await;
        let a_second = |count: u64| count as f64 / seconds;
        println!("{swaps} swaps and {:.0} messages a second: {figures}", a_second(figures.acked));
        self.nothing_is_lost(&figures, &channel).await;
        let ratio = figures.acks.per_mille(990).as_secs_f64() / calm.acks.per_mille(990).as_secs_f64();
        (ratio, a_second(swaps))
    }
}

/// How many messages each generation stamped. A message has one stamp.
async fn stamps(member: &Member, channel: &Channel) -> BTreeMap<String, u64> {
    let mut stamps = BTreeMap::new();
    let mut after = 0;
    loop {
        let (status, page) = member.get(&channel.path(&format!("messages/?after={after}&limit=100"))).await;
        assert_eq!(status, 200, "{page}");
        let messages = list(&page, "results");
        let Some(last) = messages.last() else { return stamps };
        after = number(last, "seq");
        for message in messages {
            let [stamp] = list(message, "attachments") else { panic!("one stamp: {message}") };
            *stamps.entry(words(stamp)).or_insert(0) += 1;
        }
    }
}

fn words(stamp: &Value) -> String {
    format!("{} {}", text(stamp, "version"), text(stamp, "config"))
}
