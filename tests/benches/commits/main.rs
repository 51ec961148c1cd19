//! How many messages a second are stored and acknowledged, beside what the database does with a commit for each row.
//!
//! One run measures all of it on one machine: `pgbench` with one row a transaction, the broker on that same server, one
//! row a transaction in SQLite, and the embedded broker on the same disk. Both servers keep every promise about the
//! disk. What is acknowledged is compared with what is stored. It changes nothing outside its own folders, and it asserts
//! no speed: it prints.

mod committer;
mod costs;
mod floor;
mod publishers;

use std::sync::Arc;
use std::time::Duration;

use switchboard::model::{ChannelId, Clock, Role, TenantSlug, User};
use switchboard::store::postgres::{Options, Postgres};
use switchboard::store::sqlite::Sqlite;
use switchboard::store::{NewChannel, Store};
use switchboard_tests::tokens::Claims;
use switchboard_tests::{Broker, Folder, Settings, Signal};

use self::floor::{PostgresServer, single_rows_in_sqlite};
use self::publishers::{Publisher, Tally, publish};

/// How many publishers, each in a channel of its own, each waiting for its ack before it says more.
const PUBLISHERS: usize = 64;

/// How many messages a single publisher has under way who does not wait for acks.
const AHEAD: usize = 64;

/// How long each thing is measured.
const SPAN: Duration = Duration::from_secs(8);

#[tokio::main]
async fn main() {
    // Cargo asks a benchmark whether it has tests.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("{PUBLISHERS} publishers in as many channels, {} characters a message", publishers::TEXT);
    on_postgres().await;
    embedded().await;
}

async fn on_postgres() {
    let server = PostgresServer::start().await;
    let before = server.pgbench(SPAN).await;
    let settings = Settings::embedded().with("SWITCHBOARD_DATABASE_URL", &server.url());
    let store = Postgres::open(&server.url(), Options::default()).await.expect("the server runs");
    let tally = measure("postgres", &settings, Arc::new(store), Some(server.pid())).await;
    let after = server.pgbench(SPAN).await;
    let floor = (before + after) / 2.0;
    println!("postgres  pgbench, 8 clients      {floor:>8.0} transactions/s ({before:.0} before, {after:.0} after)");
    println!("postgres  ratio                   {:>8.1}", tally.per_second() / floor);
}

async fn embedded() {
    let settings = Settings::embedded();
    let folder = Folder::create();
    let before = single_rows_in_sqlite(folder.path(), SPAN / 2);
    let store = Sqlite::open(&settings.data()).await.expect("a folder of our own");
    let tally = measure("embedded", &settings, Arc::new(store), None).await;
    let after = single_rows_in_sqlite(folder.path(), SPAN / 2);
    let floor = (before + after) / 2.0;
    println!("embedded  single rows in SQLite   {floor:>8.0} transactions/s ({before:.0} before, {after:.0} after)");
    println!("embedded  ratio                   {:>8.1}", tally.per_second() / floor);
}

/// Starts a broker on the store, lets everyone publish, and compares what was acknowledged with what is there.
async fn measure(name: &str, settings: &Settings, store: Arc<dyn Store>, server: Option<u32>) -> Tally {
    let (tenant, rooms) = furnish(store.as_ref()).await;
    let broker = Broker::start(settings).await;
    let publishers = rooms.iter().map(|(channel, user)| Publisher {
        address: broker.address(),
        channel: *channel,
        token: Claims::access(tenant.as_str(), user.id.as_str()).sign(),
    });
    let publishers: Vec<_> = publishers.collect();
    let one = vec![publishers[0].clone()];
    let used = || {
        let database = server.map_or(Duration::ZERO, costs::of);
        [costs::below(std::process::id()) - database, database, costs::own()]
    };
    let before = used();
    let tally = publish(publishers, 1, SPAN).await;
    let after = used();
    let begun = used()[0];
    let waiting = publish(one.clone(), 1, SPAN / 2).await;
    let between = used()[0];
    let ahead = publish(one, AHEAD, SPAN / 2).await;
    let cost = |used: Duration, tally: &Tally| used.as_secs_f64() * 1e6 / tally.acknowledged_in_all as f64;
    let (costs_waiting, costs_ahead) = (cost(between - begun, &waiting), cost(used()[0] - between, &ahead));
    let mut stored = 0;
    for (channel, _) in &rooms {
        stored += store.channel(&tenant, *channel).await.expect("the store answers").expect("it was made").seq;
    }
    let acknowledged = tally.acknowledged_in_all + waiting.acknowledged_in_all + ahead.acknowledged_in_all;
    assert_eq!(stored, acknowledged, "what was acknowledged is what is stored");
    println!("{name:<9} broker, stored and acked {:>7.0} messages/s ({stored} in all, checked)", tally.per_second());
    println!("{name:<9} from sending to the ack  {}", tally.latencies());
    let micros = |part: usize| (after[part] - before[part]).as_secs_f64() * 1e6 / tally.acknowledged_in_all as f64;
    let [broker_used, database_used, publishers_used] = [micros(0), micros(1), micros(2)];
    println!(
        "{name:<9} processors, a message   broker {broker_used:.0} µs, database server {database_used:.0} µs, \
         publishers {publishers_used:.0} µs"
    );
    for (who, tally, cost) in [("waiting for each ack", &waiting, costs_waiting), ("64 under way", &ahead, costs_ahead)]
    {
        let (rate, latencies) = (tally.per_second(), tally.latencies());
        println!("{name:<9} one, {who:<20} {rate:>7.0} messages/s, {cost:.0} µs of the broker each; {latencies}");
    }
    println!("{name:<9} ratio                   {:>8.1}", ahead.per_second() / waiting.per_second());
    broker.stop(Signal::Terminate).await;
    let alone = committer::commit(store, &tenant, &rooms, SPAN / 2).await;
    println!("{name:<9} without sockets         {alone:>8.0} commits/s, each answered to a caller who waits for it");
    tally
}

/// A tenant, and for each publisher a member and a channel.
async fn furnish(store: &dyn Store) -> (TenantSlug, Vec<(ChannelId, User)>) {
    let clock = Clock::system();
    let tenant: TenantSlug = "bench".parse().expect("a slug");
    store.create_tenant(&tenant, None, clock.now()).await.expect("an empty store").expect("the slug is free");
    let mut rooms = Vec::new();
    for number in 0..PUBLISHERS {
        let name = format!("member{number}");
        let user = User { id: name.parse().expect("an id"), username: name.parse().expect("a name") };
        assert!(store.create_member(&tenant, &user, None, clock.now()).await.expect("the store answers"));
        let channel = ChannelId(clock.uuid());
        let new = NewChannel {
            id: channel,
            name,
            epoch: clock.epoch(),
            members: vec![(user.id.clone(), Role::Owner)],
            at: clock.now(),
        };
        assert!(store.create_channel(&tenant, &new).await.expect("the store answers"));
        rooms.push((channel, user));
    }
    (tenant, rooms)
}
