//! What was promised holds when something goes wrong: what a failure costs, whom, and for how long.
//!
//! Nodes, Redis and Postgres are killed, silenced and cut off; disks are full, readers stop reading. Brokers are real
//! processes, with servers of their own where a fault would reach others, and faults are as they occur: signals, cut and
//! silent connections, ended backends. `tests/run --long` does each fault ten times as often.

mod disk;
mod drain;
mod gate;
mod nodes;
mod partition;
mod postgres;
mod reconnect;
mod redis;
mod slow_readers;

use futures_util::future::{join, join_all};
use switchboard_tests::journal::{Doors, Journal, Pace};
use switchboard_tests::servers::{PrivatePostgres, PrivateRedis};
use switchboard_tests::{App, Channel, Door, Member, Proxy, Settings, Tenant};

/// Two nodes on a Postgres and a Redis of their own. Node `a` reaches both through proxies.
struct Scene {
    // The nodes end before what they stand on.
    a: App,
    b: App,
    a_to_postgres: Proxy,
    a_to_redis: Proxy,
    redis: PrivateRedis,
    postgres: PrivatePostgres,
}

impl Scene {
    async fn start() -> Self {
        let (postgres, redis) = join(PrivatePostgres::start(), PrivateRedis::start()).await;
        let a_to_postgres = Proxy::to(postgres.address()).await;
        let a_to_redis = Proxy::to(redis.address()).await;
        let database = postgres.url_by(a_to_postgres.address());
        let a = App::start(Settings::node(&database, &format!("redis://{}", a_to_redis.address()))).await;
        let b = App::start(Settings::node(&postgres.url(), &redis.url())).await;
        Self { a, b, a_to_postgres, a_to_redis, redis, postgres }
    }

    /// Alice, who connects to node `a`, Bob, who connects to node `b`, and their channel.
    async fn people(&self) -> People {
        let acme = self.a.tenant("acme").await;
        let (alice, bob) = (acme.member("alice").await, acme.member("bob").await.at(self.b.door()));
        let lobby = acme.channel("lobby", &[&alice, &bob]).await;
        People { acme, alice, bob, lobby }
    }

    /// A journal with publishers and a reader at each node, who know no other door.
    fn load(&self, people: &People, publishers: usize, pace: Pace) -> Journal {
        let mut journal = Journal::of(&people.lobby);
        for (node, member) in [(&self.a, &people.alice), (&self.b, &people.bob)] {
            let doors = Doors::new([node.door()]);
            journal.reader(member, &doors);
            for _ in 0..publishers {
                journal.publisher(member, &doors, pace);
            }
        }
        journal
    }
}

struct People {
    acme: Tenant,
    alice: Member,
    bob: Member,
    lobby: Channel,
}

/// Waits until each journal has so many more acks.
async fn acks(journals: &[Journal], more: u64) {
    join_all(journals.iter().map(|journal| journal.acks(more))).await;
}

/// What a node says of itself to operators.
async fn readiness(node: &App) -> String {
    let (_, body) = Door::new(node.broker().admin_address()).get("/readyz", None).await;
    body.as_str().unwrap_or_default().to_owned()
}
