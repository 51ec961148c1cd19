//! What the nodes of a cluster rely on in a bus: one suite for both adapters, and what only Redis can show.
//!
//! That something does not arrive is shown by something later that does: each node's messages arrive in their order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use switchboard::bus::memory::Exchange;
use switchboard::bus::redis::{BusKeys, RedisBus};
use switchboard::bus::{Bus, BusError, Inbox, Incoming, QUEUE};
use switchboard::model::{ChannelId, ChannelKey, Clock};
use switchboard::relay::Relay;
use switchboard::store::Store;
use switchboard::store::sqlite::Sqlite;
use switchboard_tests::{Folder, Goal, Proxy, Traffic, figure};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::redis_server::{DEADLINE, PrivateRedis, ask, free_port, shared_url, until};

/// What nodes meet on.
enum Medium {
    Memory(Exchange),
    /// A server of the test's own: all nodes of a Redis hear of a change of the catalogue, also those of other tests.
    Redis(PrivateRedis),
}

impl Medium {
    async fn node(&self) -> Node {
        match self {
            Medium::Memory(exchange) => {
                let (bus, inbox) = exchange.join();
                Node { bus: Box::new(bus), inbox }
            }
            Medium::Redis(server) => Node::connect(&server.url()).await,
        }
    }
}

struct Node {
    bus: Box<dyn Bus>,
    inbox: Inbox,
}

impl Node {
    async fn connect(url: &str) -> Self {
        let (bus, inbox) = RedisBus::connect(url, keys(), &Clock::system()).await.expect("Redis answers");
        Self { bus: Box::new(bus), inbox }
    }

    async fn subscribe(&self, channel: &ChannelKey) {
        self.bus.subscribe(channel).await.expect("subscribing works");
    }

    async fn unsubscribe(&self, channel: &ChannelKey) {
        self.bus.unsubscribe(channel).await.expect("unsubscribing works");
    }

    fn says(&self, channel: &ChannelKey, text: &str) {
        self.bus.publish(channel, Bytes::copy_from_slice(text.as_bytes()));
    }

    async fn next(&mut self) -> Incoming {
        timeout(DEADLINE, self.inbox.recv()).await.expect("something comes in").expect("the inbox is open")
    }

    #[track_caller]
    fn hears(&mut self, channel: &ChannelKey, text: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            match self.next().await {
                Incoming::Message(of, message) => {
                    assert_eq!((&of, str::from_utf8(&message)), (channel, Ok(text)), "at {place}");
                }
                other => panic!("{other:?} instead of {text:?} at {place}"),
            }
        }
    }

    async fn gets_notice(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Incoming::Reconnected), "{next:?} instead of a notice");
    }

    async fn hears_of_a_change(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Incoming::Announced), "{next:?} instead of an announcement");
    }

    async fn is_connected(&self, connected: bool) {
        until("the connection changed", async || self.bus.is_connected() == connected).await;
    }
}

/// The keys that all nodes have.
fn keys() -> BusKeys {
    BusKeys::new(b"the secret of all nodes", None)
}

/// A channel that no other test has.
fn channel(tenant: &str) -> ChannelKey {
    ChannelKey { tenant: tenant.parse().expect("a slug"), channel: ChannelId(Clock::system().uuid()) }
}

/// Counts on this thread only, which is all of a test: the test runtime has no other.
struct Drops(PrometheusRecorder);

impl Drops {
    fn new() -> Self {
        Self(PrometheusBuilder::new().build_recorder())
    }

    fn counted(&self, reason: &str) -> usize {
        let line = format!("switchboard_bus_dropped_total{{reason=\"{reason}\"}} ");
        let text = self.0.handle().render();
        text.lines().find_map(|text| text.strip_prefix(&line)).map_or(0, |count| count.parse().expect("a number"))
    }
}

macro_rules! on_both {
    ($($case:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $case() {
                super::$case(super::Medium::Memory(super::Exchange::new())).await;
            })*
        }
        mod redis {
            $(#[tokio::test] async fn $case() {
                super::$case(super::Medium::Redis(super::PrivateRedis::start().await)).await;
            })*
        }
    };
}

on_both! {
    a_message_reaches_the_other_nodes_and_not_its_sender
    the_order_of_a_channel_is_kept
    equal_channel_ids_of_two_tenants_do_not_mix
    unsubscribing_ends_delivery
    subscribing_twice_is_once
    a_full_inbox_drops_and_counts_and_gives_notice_later
    an_announcement_reaches_all_other_nodes_whatever_they_are_subscribed_to
    a_full_inbox_learns_of_an_announcement_later
    a_dropped_bus_leaves_no_task_behind
}

async fn a_message_reaches_the_other_nodes_and_not_its_sender(medium: Medium) {
    let (mut one, mut two, mut three) = (medium.node().await, medium.node().await, medium.node().await);
    let lobby = channel("acme");
    for node in [&one, &two, &three] {
        node.subscribe(&lobby).await;
        assert!(node.bus.is_connected());
    }
    one.says(&lobby, "hi");
    two.hears(&lobby, "hi").await;
    three.hears(&lobby, "hi").await;
    two.says(&lobby, "hello");
    one.hears(&lobby, "hello").await;
    three.hears(&lobby, "hello").await;
}

async fn the_order_of_a_channel_is_kept(medium: Medium) {
    let (one, mut two) = (medium.node().await, medium.node().await);
    let lobby = channel("acme");
    two.subscribe(&lobby).await;
    for number in 0..2_000 {
        one.says(&lobby, &number.to_string());
    }
    for number in 0..2_000 {
        two.hears(&lobby, &number.to_string()).await;
    }
}

async fn equal_channel_ids_of_two_tenants_do_not_mix(medium: Medium) {
    let (one, mut two) = (medium.node().await, medium.node().await);
    let acme = channel("acme");
    let globex = ChannelKey { tenant: "globex".parse().expect("a slug"), channel: acme.channel };
    two.subscribe(&globex).await;
    one.says(&acme, "for acme alone");
    one.says(&globex, "for globex");
    two.hears(&globex, "for globex").await;
    two.subscribe(&acme).await;
    one.says(&acme, "for acme");
    two.hears(&acme, "for acme").await;
}

async fn unsubscribing_ends_delivery(medium: Medium) {
    let (one, mut two) = (medium.node().await, medium.node().await);
    let (lobby, attic) = (channel("acme"), channel("acme"));
    two.subscribe(&lobby).await;
    two.subscribe(&attic).await;
    one.says(&lobby, "before");
    two.hears(&lobby, "before").await;
    two.unsubscribe(&lobby).await;
    one.says(&lobby, "after");
    one.says(&attic, "elsewhere");
    two.hears(&attic, "elsewhere").await;
    two.unsubscribe(&channel("acme")).await;
    two.subscribe(&lobby).await;
    one.says(&lobby, "again");
    two.hears(&lobby, "again").await;
}

async fn subscribing_twice_is_once(medium: Medium) {
    let (one, mut two) = (medium.node().await, medium.node().await);
    let (lobby, attic) = (channel("acme"), channel("acme"));
    two.subscribe(&lobby).await;
    two.subscribe(&lobby).await;
    two.subscribe(&attic).await;
    one.says(&lobby, "one");
    one.says(&lobby, "two");
    two.hears(&lobby, "one").await;
    two.hears(&lobby, "two").await;
    two.unsubscribe(&lobby).await;
    one.says(&lobby, "three");
    one.says(&attic, "four");
    two.hears(&attic, "four").await;
}

async fn a_full_inbox_drops_and_counts_and_gives_notice_later(medium: Medium) {
    let drops = Drops::new();
    let _recording = metrics::set_default_local_recorder(&drops.0);
    let (one, mut two) = (medium.node().await, medium.node().await);
    let lobby = channel("acme");
    two.subscribe(&lobby).await;
    // In portions that the queue on the way out can take.
    for said in 1..=QUEUE + 10 {
        one.says(&lobby, &said.to_string());
        if said % 1_000 == 0 || said == QUEUE + 10 {
            until("all has arrived or is dropped", async || two.inbox.len() + drops.counted("inbox_full") == said)
                .await;
        }
    }
    assert_eq!((drops.counted("inbox_full"), drops.counted("queue_full")), (10, 0));
    for number in 1..=QUEUE {
        two.hears(&lobby, &number.to_string()).await;
    }
    two.gets_notice().await;
    one.says(&lobby, "after");
    two.hears(&lobby, "after").await;
}

async fn an_announcement_reaches_all_other_nodes_whatever_they_are_subscribed_to(medium: Medium) {
    let (mut one, mut two, mut three) = (medium.node().await, medium.node().await, medium.node().await);
    let lobby = channel("acme");
    two.subscribe(&lobby).await;
    one.bus.announce();
    two.hears_of_a_change().await;
    three.hears_of_a_change().await;
    three.bus.announce();
    // It is the first that the one who announced before hears of at all.
    one.hears_of_a_change().await;
    two.hears_of_a_change().await;
    one.says(&lobby, "and nothing else");
    two.hears(&lobby, "and nothing else").await;
}

async fn a_full_inbox_learns_of_an_announcement_later(medium: Medium) {
    let (one, mut two) = (medium.node().await, medium.node().await);
    let lobby = channel("acme");
    two.subscribe(&lobby).await;
    for said in 1..=QUEUE {
        one.says(&lobby, &said.to_string());
        if said % 1_000 == 0 || said == QUEUE {
            until("all has arrived", async || two.inbox.len() == said).await;
        }
    }
    one.bus.announce();
    let mut others = 0;
    for _ in 0..=QUEUE {
        others += usize::from(!matches!(two.next().await, Incoming::Message(..)));
    }
    assert_eq!(others, 1, "beside what came before there is the announcement, or a notice that stands for it");
}

async fn a_dropped_bus_leaves_no_task_behind(medium: Medium) {
    let lobby = channel("acme");
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut node = medium.node().await;
    node.subscribe(&lobby).await;
    assert!(tasks() > before);
    drop(node.bus);
    assert!(timeout(DEADLINE, node.inbox.recv()).await.expect("the inbox ends").is_none());
    until("the tasks have ended", async || tasks() == before).await;
}

#[tokio::test]
async fn redis_knows_of_a_subscription_as_long_as_it_lasts() {
    let node = Node::connect(&shared_url()).await;
    let lobby = channel("acme");
    let name = format!("switchboard:ch:acme:{}", lobby.channel);
    let subscribers = async || {
        let (_, count): (String, usize) = ask(&shared_url(), &["PUBSUB", "NUMSUB", &name]).await;
        count
    };
    node.subscribe(&lobby).await;
    node.subscribe(&lobby).await;
    assert_eq!(subscribers().await, 1);
    node.unsubscribe(&lobby).await;
    assert_eq!(subscribers().await, 0);
    node.subscribe(&lobby).await;
    drop(node);
    until("the subscription of the dropped bus is gone", async || subscribers().await == 0).await;
}

#[tokio::test]
async fn many_subscribe_to_redis_at_once_and_each_is_served() {
    let (one, mut two) = (Node::connect(&shared_url()).await, Node::connect(&shared_url()).await);
    let channels: Vec<_> = (0..1_500).map(|_| channel("acme")).collect();
    let mut subscribing: Vec<_> = channels.iter().map(|channel| Box::pin(two.subscribe(channel))).collect();
    std::future::poll_fn(|context| {
        subscribing.retain_mut(|subscribe| subscribe.as_mut().poll(context).is_pending());
        if subscribing.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    drop(subscribing);
    for channel in &channels {
        one.says(channel, "hi");
    }
    for channel in &channels {
        two.hears(channel, "hi").await;
    }
}

#[tokio::test]
async fn a_full_queue_to_redis_drops_and_counts_instead_of_waiting() {
    let drops = Drops::new();
    let _recording = metrics::set_default_local_recorder(&drops.0);
    let (one, mut two) = (Node::connect(&shared_url()).await, Node::connect(&shared_url()).await);
    let lobby = channel("acme");
    two.subscribe(&lobby).await;
    // Nothing awaits, so nothing can leave the queue meanwhile.
    for number in 0..QUEUE + 10 {
        one.says(&lobby, &number.to_string());
    }
    assert_eq!(drops.counted("queue_full"), 10);
    for number in 0..QUEUE {
        two.hears(&lobby, &number.to_string()).await;
    }
}

#[tokio::test]
async fn a_killed_connection_to_redis_is_made_again_with_its_subscriptions() {
    let redis = PrivateRedis::start().await;
    let (mut one, mut two) = (Node::connect(&redis.url()).await, Node::connect(&redis.url()).await);
    let lobby = channel("acme");
    two.subscribe(&lobby).await;
    let killed: usize = ask(&redis.url(), &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(killed, 2);
    one.gets_notice().await;
    two.gets_notice().await;
    assert!(two.bus.is_connected());
    one.says(&lobby, "still there?");
    two.hears(&lobby, "still there?").await;
    one.bus.announce();
    two.hears_of_a_change().await;
}

#[tokio::test]
async fn an_announcement_made_while_cut_off_from_redis_goes_out_when_the_way_is_back() {
    let redis = PrivateRedis::start().await;
    let way = Proxy::to(redis.address()).await;
    let one = Node::connect(&format!("redis://{}", way.address())).await;
    let mut two = Node::connect(&redis.url()).await;
    way.set(Traffic::Refuse).await;
    one.is_connected(false).await;
    one.bus.announce();
    one.bus.announce();
    way.set(Traffic::Pass).await;
    two.hears_of_a_change().await;
}

#[tokio::test]
async fn a_restarted_redis_is_found_again() {
    let drops = Drops::new();
    let _recording = metrics::set_default_local_recorder(&drops.0);
    let mut redis = PrivateRedis::start().await;
    let (mut one, mut two) = (Node::connect(&redis.url()).await, Node::connect(&redis.url()).await);
    let (lobby, attic, cellar) = (channel("acme"), channel("acme"), channel("acme"));
    two.subscribe(&lobby).await;
    two.subscribe(&attic).await;

    redis.kill();
    one.is_connected(false).await;
    two.is_connected(false).await;
    let before = drops.counted("disconnected");
    one.says(&lobby, "into the void");
    assert_eq!(drops.counted("disconnected"), before + 1);
    // There is no connection to wait for before Redis is started again.
    two.subscribe(&cellar).await;
    two.unsubscribe(&attic).await;

    redis.start_again().await;
    one.is_connected(true).await;
    two.is_connected(true).await;
    one.gets_notice().await;
    two.gets_notice().await;
    for channel in [&lobby, &attic, &cellar] {
        one.says(channel, "back");
    }
    two.hears(&lobby, "back").await;
    two.hears(&cellar, "back").await;
}

#[tokio::test]
async fn a_redis_that_falls_silent_is_noticed() {
    let redis = PrivateRedis::start().await;
    let (one, mut two) = (Node::connect(&redis.url()).await, Node::connect(&redis.url()).await);
    let lobby = channel("acme");
    two.subscribe(&lobby).await;
    redis.freeze();
    let frozen = Instant::now();
    two.is_connected(false).await;
    figure("a silent Redis was noticed after", frozen.elapsed(), Goal::AtMost(Duration::from_secs(5)));
    one.is_connected(false).await;
    redis.thaw();
    two.gets_notice().await;
    one.is_connected(true).await;
    one.says(&lobby, "awake");
    two.hears(&lobby, "awake").await;
}

#[tokio::test]
async fn a_silent_redis_holds_no_subscriber_up_and_gets_the_subscription_later() {
    let redis = PrivateRedis::start().await;
    let (one, mut two) = (Node::connect(&redis.url()).await, Node::connect(&redis.url()).await);
    let (lobby, attic) = (channel("acme"), channel("acme"));
    two.subscribe(&attic).await;
    redis.freeze();
    let started = Instant::now();
    assert!(two.bus.subscribe(&lobby).await.is_err());
    // By now the connection may count as lost, and then this does not wait.
    let _ = two.bus.unsubscribe(&attic).await;
    figure("a silent Redis was waited for", started.elapsed(), Goal::AtMost(Duration::from_secs(4)));
    redis.thaw();
    let names = [&lobby, &attic].map(|channel| format!("switchboard:ch:acme:{}", channel.channel));
    until("Redis has what is wanted", async || {
        let counts: Vec<(String, usize)> =
            ask::<Vec<String>>(&redis.url(), &["PUBSUB", "NUMSUB", &names[0], &names[1]])
                .await
                .chunks(2)
                .map(|pair| (pair[0].clone(), pair[1].parse().expect("a count")))
                .collect();
        counts.iter().map(|(_, count)| *count).eq([1, 0])
    })
    .await;
    one.is_connected(true).await;
    one.says(&lobby, "awake");
    loop {
        // Whether the connection was lost depends on how long Redis was silent.
        match two.next().await {
            Incoming::Message(of, text) => break assert_eq!((of, &text[..]), (lobby, &b"awake"[..])),
            Incoming::Reconnected => {}
            Incoming::Announced => panic!("nobody has announced anything"),
        }
    }
}

#[tokio::test]
async fn a_subscription_to_redis_takes_effect_when_nobody_waits_for_it() {
    let redis = PrivateRedis::start().await;
    let node = Node::connect(&redis.url()).await;
    redis.freeze();
    // More than can wait for the link at once, and none of them waits.
    for _ in 0..1_500 {
        assert!(node.bus.subscribe(&channel("acme")).now_or_never().is_none());
    }
    redis.thaw();
    until("Redis has all of them", async || {
        ask::<Vec<String>>(&redis.url(), &["PUBSUB", "CHANNELS", "switchboard:ch:*"]).await.len() == 1_500
    })
    .await;
}

#[tokio::test]
async fn the_first_connection_fails_fast_and_names_the_address_alone() {
    let port = free_port();
    let refused = RedisBus::connect(&format!("redis://eve:s3cret@127.0.0.1:{port}"), keys(), &Clock::system()).await;
    let Err(error @ BusError::Unreachable { .. }) = refused else { panic!("nothing listens there") };
    let text = format!("{error} {error:?}");
    assert!(text.contains("refused"), "it is the first refusal that is told, and none is waited for: {text}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("eve"), "{text}");

    let misread = RedisBus::connect("http://eve:s3cret@127.0.0.1", keys(), &Clock::system()).await;
    let Err(error @ BusError::Address(_)) = misread else { panic!("that is no address of a Redis") };
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn the_first_connection_does_not_wait_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let connecting = async { RedisBus::connect(&format!("redis://{address}"), keys(), &Clock::system()).await };
    let result = timeout(DEADLINE, connecting).await.expect("gives up");
    assert!(matches!(result, Err(BusError::Unreachable { .. })), "nothing answers there");
}

#[tokio::test]
async fn a_node_of_one_process_knows_when_it_is_alone() {
    let exchange = Exchange::new();
    let (first, _inbox) = exchange.join();
    assert!(first.is_alone());
    let (second, _other) = exchange.join();
    assert!(!first.is_alone() && !second.is_alone());
    drop(second);
    assert!(first.is_alone());
}

#[tokio::test]
async fn a_relay_passes_announcements_of_redis_on_and_that_one_may_have_been_missed() {
    let folder = Folder::create();
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path()).await.expect("a folder"));
    let mut redis = PrivateRedis::start().await;
    let relay = async || {
        let (bus, inbox) = RedisBus::connect(&redis.url(), keys(), &Clock::system()).await.expect("Redis answers");
        Relay::start(Arc::default(), Arc::new(bus), inbox, Arc::clone(&store), Clock::system())
    };
    let (here, there) = (relay().await, relay().await);
    let (mut near, mut far) = (here.announced(), there.announced());
    here.announce();
    timeout(DEADLINE, near.changed()).await.expect("in time").expect("the relay is there");
    timeout(DEADLINE, far.changed()).await.expect("in time").expect("the relay is there");
    redis.kill();
    redis.start_again().await;
    timeout(DEADLINE, far.changed()).await.expect("in time").expect("the relay is there");
}
