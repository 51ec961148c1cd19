//! What a delivery costs: messages at a rate that the broker keeps up with, each to many sockets, beside the least that it can
//! cost on this machine, the floor.
//!
//! The processor time is the server process's own, as the kernel counts it. Postgres does not wait for its disk here: it is the
//! broker that is measured. It asserts no speed: it prints a table.

mod client;
#[path = "../commits/costs.rs"]
#[expect(dead_code, reason = "the other bench also asks what it has used itself")]
mod costs;
mod floor;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use switchboard::model::{ChannelId, Clock, Role, TenantSlug, User};
use switchboard::store::postgres::{Options, Postgres};
use switchboard::store::sqlite::Sqlite;
use switchboard::store::{NewChannel, Store};
use switchboard_tests::servers::{PrivatePostgres, PrivateRedis};
use switchboard_tests::tokens::Claims;
use switchboard_tests::{Broker, Latencies, Settings, Signal};
use tokio::time::{Instant, sleep_until};

use self::client::Admission;

/// Sockets, channels, and messages a second in all.
const LOADS: [(usize, usize, u32); 3] = [(100, 1, 400), (200, 20, 1_000), (1_000, 1, 50)];

/// Sockets that say and hear nothing.
const IDLE: usize = 2_000;

/// How long it goes on before it counts, and for how long it counts.
const WARM_UP: Duration = Duration::from_secs(2);
const SPAN: Duration = Duration::from_secs(8);

/// How long the last messages may take.
const REST: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() {
    // Cargo asks a benchmark whether it has tests.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if std::env::args().any(|argument| argument == "--floor") {
        return tokio::task::block_in_place(floor::serve);
    }
    println!("| load | server | delivered | p50, p99 | µs a delivery | × floor |");
    println!("|---|---|---|---|---|---|");
    let mut floors = Vec::new();
    for load in LOADS {
        let floor = Floor::start();
        let paths = (0..load.0).map(|socket| format!("/{}", socket % load.1)).collect::<Vec<_>>();
        floors.push(row("floor", load, floor.address, floor.process.id(), &paths, None).await);
    }
    let floor = Floor::start();
    idle("floor", floor.address, floor.process.id(), &vec!["/".to_owned(); IDLE]).await;

    let (postgres, redis) = (PrivatePostgres::start().await, PrivateRedis::start().await);
    let store = Postgres::open(&postgres.url(), Options::default()).await.expect("the server runs");
    measure("Postgres, Redis", Settings::node(&postgres.url(), &redis.url()), Arc::new(store), &floors).await;
    let settings = Settings::embedded();
    let store = Sqlite::open(&settings.data()).await.expect("a folder of our own");
    measure("embedded", settings, Arc::new(store), &floors).await;
}

/// A process of this program that does nothing but the least.
struct Floor {
    process: Child,
    address: SocketAddr,
}

impl Floor {
    fn start() -> Self {
        let program = std::env::current_exe().expect("a program knows where it is");
        let mut process =
            Command::new(program).arg("--floor").stdout(Stdio::piped()).spawn().expect("this program runs");
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it says where");
        Self { process, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All loads on one broker, and the idle sockets on another one.
async fn measure(name: &str, settings: Settings, store: Arc<dyn Store>, floors: &[f64]) {
    let settings = settings
        .with("SWITCHBOARD_MAX_CONNECTIONS_PER_MEMBER", "10000")
        .with("SWITCHBOARD_MAX_CONNECTIONS_PER_ADDRESS", "10000");
    let (rooms, token) = furnish(store.as_ref()).await;
    drop(store);
    let broker = Broker::start(&settings).await;
    for (load, floor) in LOADS.into_iter().zip(floors) {
        let path = |socket: usize| format!("/ws/chat/{}/?token={token}", rooms[socket % load.1]);
        let paths: Vec<_> = (0..load.0).map(path).collect();
        row(name, load, broker.address(), broker.pid(), &paths, Some(*floor)).await;
    }
    broker.stop(Signal::Terminate).await;
    let broker = Broker::start(&settings).await;
    let path = |socket: usize| format!("/ws/chat/{}/?token={token}", rooms[socket % rooms.len()]);
    idle(name, broker.address(), broker.pid(), &(0..IDLE).map(path).collect::<Vec<_>>()).await;
    broker.stop(Signal::Terminate).await;
}

/// Measures a load, prints its line, and returns the microseconds of the server a delivery.
async fn row(
    name: &str,
    (sockets, channels, rate): (usize, usize, u32),
    address: SocketAddr,
    server: u32,
    paths: &[String],
    floor: Option<f64>,
) -> f64 {
    let mut crowd = Admission::open(address, paths, channels).await;
    let from = Instant::now() + WARM_UP;
    let until = from + SPAN;
    let used = async {
        sleep_until(from).await;
        let before = costs::of(server);
        sleep_until(until).await;
        costs::of(server) - before
    };
    let (used, ()) = tokio::join!(used, crowd.speak(rate, until));
    sleep_until(until + REST).await;
    let heard = crowd.heard(from, until).await;
    let offered = SPAN.as_secs_f64() * f64::from(rate) * (sockets / channels) as f64;
    let cost = used.as_secs_f64() * 1e6 / heard.len() as f64;
    let (share, latencies) = (heard.len() as f64 / offered, heard.into_iter().collect::<Latencies>());
    println!(
        "| {sockets} sockets, {channels} channels, {rate}/s | {name} | {:.1} % | {:.1?}, {:.1?} | {cost:.1} | {:.1} |",
        share * 100.0,
        latencies.per_mille(500),
        latencies.per_mille(990),
        cost / floor.unwrap_or(cost)
    );
    cost
}

/// Measures what sockets take that say and hear nothing, and prints its line.
async fn idle(name: &str, address: SocketAddr, server: u32, paths: &[String]) {
    let before = memory(server);
    let crowd = Admission::open(address, paths, 0).await;
    sleep_until(Instant::now() + SPAN / 2).await;
    let kib = (memory(server) - before) / paths.len() as f64;
    println!("| {} sockets at rest | {name} | {kib:.1} KiB a socket | | | |", paths.len());
    drop(crowd);
}

/// KiB of memory that a process has in use.
fn memory(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has a size");
    line.trim().trim_end_matches(" kB").parse().expect("the size is in kB")
}

/// A tenant, a member and channels, and the member's token.
async fn furnish(store: &dyn Store) -> (Vec<ChannelId>, String) {
    let clock = Clock::system();
    let tenant: TenantSlug = "bench".parse().expect("a slug");
    store.create_tenant(&tenant, None, clock.now()).await.expect("an empty store").expect("the slug is free");
    let user = User { id: "alice".parse().expect("an id"), username: "alice".parse().expect("a name") };
    assert!(store.create_member(&tenant, &user, None, clock.now()).await.expect("the store answers"));
    let mut rooms = Vec::new();
    for number in 0..20 {
        let new = NewChannel {
            id: ChannelId(clock.uuid()),
            name: format!("room {number}"),
            epoch: clock.epoch(),
            members: vec![(user.id.clone(), Role::Owner)],
            at: clock.now(),
        };
        assert!(store.create_channel(&tenant, &new).await.expect("the store answers"));
        rooms.push(new.id);
    }
    let token = Claims::access(tenant.as_str(), user.id.as_str()).sign();
    (rooms, token)
}
