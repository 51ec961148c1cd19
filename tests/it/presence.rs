//! Who is here: one suite for both adapters, and what only Redis can show.

use std::sync::Arc;
use std::time::Duration;

use switchboard::model::{ChannelId, ChannelKey, Clock, SessionId, User};
use switchboard::presence::memory::MemoryPresence;
use switchboard::presence::redis::RedisPresence;
use switchboard::presence::{LEASE, Presence};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::redis_server::{DEADLINE, PrivateRedis, ask, free_port, shared_url, until};

/// How long a call waits for a Redis that is silent.
const A_WAIT: Duration = Duration::from_secs(1);

/// What nodes share.
enum Medium {
    Memory(Arc<MemoryPresence>),
    Redis,
}

impl Medium {
    async fn node(&self) -> Node {
        match self {
            Medium::Memory(presence) => Node(Arc::clone(presence) as Arc<dyn Presence>),
            Medium::Redis => Node::connect(&shared_url(), LEASE).await,
        }
    }
}

#[derive(Clone)]
struct Node(Arc<dyn Presence>);

impl Node {
    async fn connect(url: &str, lease: Duration) -> Self {
        Self(Arc::new(RedisPresence::connect(url, lease).await.expect("Redis answers")))
    }

    /// Whether that was the member's first session.
    async fn enter(&self, channel: &ChannelKey, user: &User, session: SessionId) -> bool {
        self.0.enter(channel, user, session).await.expect("presence answers")
    }

    /// Whether that was the member's last session.
    async fn leave(&self, channel: &ChannelKey, user: &User, session: SessionId) -> bool {
        self.0.leave(channel, user, session).await.expect("presence answers")
    }

    async fn present(&self, channel: &ChannelKey) -> Vec<User> {
        self.first(1_000, channel).await
    }

    async fn first(&self, limit: usize, channel: &ChannelKey) -> Vec<User> {
        self.0.present(channel, None, limit).await.expect("presence answers")
    }
}

/// A channel that no other test has.
fn channel(tenant: &str) -> ChannelKey {
    ChannelKey { tenant: tenant.parse().expect("a slug"), channel: ChannelId(Clock::system().uuid()) }
}

fn user(id: &str) -> User {
    User { id: id.parse().expect("an id"), username: format!("{id}'s \"name\"").parse().expect("a name") }
}

fn session() -> SessionId {
    SessionId(Clock::system().uuid())
}

macro_rules! on_both {
    ($($case:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $case() {
                super::$case(super::Medium::Memory(super::Arc::default())).await;
            })*
        }
        mod redis {
            $(#[tokio::test] async fn $case() {
                super::$case(super::Medium::Redis).await;
            })*
        }
    };
}

on_both! {
    only_the_first_session_enters_and_only_the_last_one_leaves
    a_session_counts_once
    a_session_that_was_not_noted_leaves_nothing
    tenants_and_channels_do_not_mix
    members_are_listed_once_by_id_up_to_a_limit
}

async fn only_the_first_session_enters_and_only_the_last_one_leaves(medium: Medium) {
    let (one, two) = (medium.node().await, medium.node().await);
    let (lobby, alice) = (channel("acme"), user("alice"));
    let (phone, laptop, tablet) = (session(), session(), session());
    assert!(one.enter(&lobby, &alice, phone).await);
    assert!(!one.enter(&lobby, &alice, laptop).await);
    assert!(!two.enter(&lobby, &alice, tablet).await);
    assert!(!one.leave(&lobby, &alice, phone).await);
    assert!(!two.leave(&lobby, &alice, tablet).await);
    assert_eq!(two.present(&lobby).await, [user("alice")]);
    assert!(one.leave(&lobby, &alice, laptop).await);
    assert_eq!(two.present(&lobby).await, []);
    assert!(two.enter(&lobby, &alice, phone).await);
}

async fn a_session_counts_once(medium: Medium) {
    let node = medium.node().await;
    let (lobby, alice, phone) = (channel("acme"), user("alice"), session());
    let renamed = User { id: alice.id.clone(), username: "Alice".parse().expect("valid") };
    assert!(node.enter(&lobby, &alice, phone).await);
    assert!(!node.enter(&lobby, &alice, phone).await);
    assert!(!node.enter(&lobby, &renamed, phone).await);
    assert!(node.leave(&lobby, &alice, phone).await);
    assert_eq!(node.present(&lobby).await, []);
}

async fn a_session_that_was_not_noted_leaves_nothing(medium: Medium) {
    let node = medium.node().await;
    let (lobby, alice, phone) = (channel("acme"), user("alice"), session());
    assert!(!node.leave(&lobby, &alice, phone).await);
    node.enter(&lobby, &alice, phone).await;
    assert!(!node.leave(&lobby, &alice, session()).await);
    assert!(!node.leave(&lobby, &user("bob"), phone).await);
    assert_eq!(node.present(&lobby).await, [user("alice")]);
    assert!(node.leave(&lobby, &alice, phone).await);
    assert!(!node.leave(&lobby, &alice, phone).await);
}

async fn tenants_and_channels_do_not_mix(medium: Medium) {
    let node = medium.node().await;
    let (acme, attic) = (channel("acme"), channel("acme"));
    let globex = ChannelKey { tenant: "globex".parse().expect("valid"), channel: acme.channel };
    let (alice, phone) = (user("alice"), session());
    assert!(node.enter(&acme, &alice, phone).await);
    assert!(node.enter(&globex, &alice, phone).await);
    assert!(node.leave(&globex, &alice, phone).await);
    assert!(!node.leave(&attic, &alice, phone).await);
    assert_eq!(node.present(&acme).await, [alice]);
    assert_eq!(node.present(&globex).await, []);
}

async fn members_are_listed_once_by_id_up_to_a_limit(medium: Medium) {
    let (one, two) = (medium.node().await, medium.node().await);
    let lobby = channel("acme");
    let by_id = ["1", "10", "2", "a", "a b", "a!", "ab", "b", "ü"].map(user);
    for member in by_id.iter().rev() {
        one.enter(&lobby, member, session()).await;
        two.enter(&lobby, member, session()).await;
    }
    assert_eq!(one.present(&lobby).await, by_id);
    assert_eq!(one.first(4, &lobby).await, by_id[..4]);
    assert_eq!(one.first(0, &lobby).await, []);
    // In pages, of whatever size; the cursor need not be present itself.
    for size in 1..=by_id.len() + 1 {
        let mut paged: Vec<User> = Vec::new();
        loop {
            let after = paged.last().map(|user| user.id.clone());
            let page = two.0.present(&lobby, after.as_ref(), size).await.expect("presence answers");
            paged.extend(page.iter().cloned());
            if page.len() < size {
                break;
            }
        }
        assert_eq!(paged, by_id, "pages of {size}");
    }
    let after = |id: &str| id.parse().expect("an id");
    assert_eq!(one.0.present(&lobby, Some(&after("a#")), 2).await.expect("presence answers"), by_id[6..8]);
    assert_eq!(one.0.present(&lobby, Some(&after("\u{10ffff}")), 2).await.expect("presence answers"), []);
}

#[tokio::test]
async fn what_a_dead_node_left_behind_ends_and_what_a_living_one_has_does_not() {
    // Longer than a busy machine keeps the living node from a renewal, of which there are three in it.
    let lease = Duration::from_secs(4);
    let (living, dead) = (Node::connect(&shared_url(), lease).await, Node::connect(&shared_url(), lease).await);
    let (lobby, alice, bob) = (channel("acme"), user("alice"), user("bob"));
    // Bob is first, so unless his entry is renewed it ends before Alice's.
    living.enter(&lobby, &bob, session()).await;
    dead.enter(&lobby, &alice, session()).await;
    drop(dead);
    assert_eq!(living.present(&lobby).await, [alice.clone(), bob.clone()]);
    until("Alice's entry has ended", async || living.present(&lobby).await == [bob.clone()]).await;
    assert!(living.enter(&lobby, &alice, session()).await);
    assert!(!living.enter(&lobby, &bob, session()).await);
}

#[tokio::test]
async fn nothing_stays_in_redis_when_all_nodes_are_gone() {
    let lobby = channel("acme");
    let names = [format!("switchboard:pr:{lobby}"), format!("switchboard:pr:{lobby}:lease")];
    let keys = async || ask::<usize>(&shared_url(), &["EXISTS", &names[0], &names[1]]).await;
    let node = Node::connect(&shared_url(), Duration::from_secs(2)).await;
    node.enter(&lobby, &user("alice"), session()).await;
    assert_eq!(keys().await, 2);
    drop(node);
    until("the keys have ended", async || keys().await == 0).await;
}

#[tokio::test]
async fn a_renewal_puts_back_what_redis_has_lost() {
    let mut redis = PrivateRedis::start().await;
    let node = Node::connect(&redis.url(), Duration::from_secs(3)).await;
    let channels = [channel("acme"), channel("acme"), channel("globex")];
    let members: Vec<_> = (100..400).map(|number| user(&number.to_string())).collect();
    for channel in &channels {
        for member in &members {
            node.enter(channel, member, session()).await;
        }
    }
    redis.kill();
    assert!(node.0.present(&channels[0], None, 1).await.is_err());
    let (attic, late) = (channel("acme"), user("late"));
    assert!(node.0.enter(&attic, &late, session()).await.is_err());
    redis.start_again().await;
    for channel in &channels {
        until("all are back", async || node.0.present(channel, None, 1_000).await.is_ok_and(|found| found == members))
            .await;
    }
    until("the one who came meanwhile is there", async || node.present(&attic).await == [late.clone()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_renewal_on_redis_does_not_bring_back_who_is_leaving() {
    // A lease so short that a renewal is mostly under way while the members come and go.
    let node = Node::connect(&shared_url(), Duration::from_millis(60)).await;
    let lobby = channel("acme");
    for number in 0..200 {
        node.enter(&lobby, &user(&format!("stays {number}")), session()).await;
    }
    let mut guests = JoinSet::new();
    for number in 0..16 {
        let (node, lobby, guest) = (node.clone(), lobby.clone(), user(&format!("guest {number}")));
        guests.spawn(async move {
            for _ in 0..60 {
                let sessions: Vec<_> = (0..8).map(|_| session()).collect();
                for session in &sessions {
                    node.enter(&lobby, &guest, *session).await;
                }
                for session in &sessions {
                    node.leave(&lobby, &guest, *session).await;
                }
                assert!(!node.present(&lobby).await.contains(&guest));
            }
        });
    }
    while let Some(guest) = guests.join_next().await {
        guest.expect("no guest was brought back");
    }
}

#[tokio::test]
async fn a_silent_redis_is_not_waited_for() {
    let redis = PrivateRedis::start().await;
    let node = Node::connect(&redis.url(), LEASE).await;
    let (lobby, alice, phone) = (channel("acme"), user("alice"), session());
    redis.freeze();
    let mut times = Vec::new();
    for call in 0..6 {
        let started = Instant::now();
        let failed = match call % 3 {
            0 => node.0.enter(&lobby, &alice, phone).await.is_err(),
            1 => node.0.present(&lobby, None, 1).await.is_err(),
            _ => node.0.leave(&lobby, &alice, phone).await.is_err(),
        };
        assert!(failed, "call {call}");
        times.push(started.elapsed());
    }
    println!("six calls while Redis is silent took {times:?}");
    // The first waits for a second of the broker's clock. If the others did, all of them would.
    assert!(times[0] >= A_WAIT, "{times:?}");
    assert!(times[1..].iter().min() < Some(&A_WAIT), "{times:?}");
    let latecomer = user("latecomer");
    assert!(node.0.enter(&lobby, &latecomer, session()).await.is_err());
    redis.thaw();
    until("who came meanwhile is there", async || {
        node.0.present(&lobby, None, 10).await.is_ok_and(|present| present.contains(&latecomer))
    })
    .await;
    node.enter(&lobby, &alice, phone).await;
    assert!(node.present(&lobby).await.contains(&alice));
}

#[tokio::test]
async fn a_dropped_presence_on_redis_leaves_no_task_behind() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let node = Node::connect(&shared_url(), LEASE).await;
    node.enter(&channel("acme"), &user("alice"), session()).await;
    assert!(tasks() > before);
    drop(node);
    until("the tasks have ended", async || tasks() == before).await;
}

#[tokio::test]
async fn the_first_connection_fails_fast_and_names_the_address_alone() {
    let port = free_port();
    let url = format!("redis://eve:s3cret@127.0.0.1:{port}");
    let connecting = timeout(DEADLINE, RedisPresence::connect(&url, LEASE)).await;
    let Err(error) = connecting.expect("gives up") else { panic!("nothing listens there") };
    let text = format!("{error} {error:?}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("eve"), "{text}");
}
