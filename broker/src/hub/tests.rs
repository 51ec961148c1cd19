use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::dice::Dice;
use crate::model::Epoch;
use crate::protocol::Close;

struct Listener {
    subscriber: Arc<Subscriber>,
    outbox: Arc<Outbox>,
}

impl Listener {
    fn new(user: &str, number: u128) -> Self {
        let outbox = Arc::new(Outbox::new(None, 1_000));
        let session = SessionId(Uuid::from_u128(number));
        let revoked = Arc::new(Notify::new());
        let subscriber = Subscriber::new(session, user.parse().unwrap(), Arc::clone(&outbox), revoked);
        Self { subscriber: Arc::new(subscriber), outbox }
    }

    fn heard(&self) -> Vec<String> {
        self.outbox.take().iter().map(|frame| String::from_utf8_lossy(&frame.payload()).into_owned()).collect()
    }
}

/// Delivers a frame as if it had just arrived. A channel without sessions here ignores it.
fn deliver(hub: &Hub, delivery: Delivery) -> Option<Gap> {
    hub.feed(&lobby())?.deliver(delivery)
}

fn lobby() -> ChannelKey {
    ChannelKey { tenant: "acme".parse().unwrap(), channel: ChannelId(Uuid::nil()) }
}

fn epoch() -> Epoch {
    "e1".parse().unwrap()
}

fn durable(seq: u64) -> Delivery {
    Delivery {
        seq: Some(seq),
        class: Class::Durable,
        audience: Audience::Channel,
        frame: WireFrame::text(seq.to_string().as_bytes()),
        echo: None,
    }
}

fn signal(text: &str, audience: Audience) -> Delivery {
    Delivery { seq: None, class: Class::Ephemeral, audience, frame: WireFrame::text(text.as_bytes()), echo: None }
}

fn joined(hub: &Hub, listener: &Listener, position: u64) {
    let (feed, _) = hub.join(&lobby(), Arc::clone(&listener.subscriber));
    feed.open_at(Some(epoch()), position);
    listener.subscriber.go_live(position);
}

#[test]
fn frames_are_delivered_in_the_order_of_seq_once_each() {
    let (hub, alice) = (Hub::default(), Listener::new("alice", 1));
    joined(&hub, &alice, 4);
    assert_eq!(deliver(&hub, durable(7)), Some(Gap { after: 4, until: 6 }));
    assert_eq!(deliver(&hub, durable(6)), Some(Gap { after: 4, until: 5 }));
    assert!(alice.heard().is_empty());
    assert_eq!(deliver(&hub, durable(5)), None);
    assert_eq!(deliver(&hub, durable(6)), None);
    assert_eq!(alice.heard(), ["5", "6", "7"]);
}

#[test]
fn a_hole_that_is_given_up_leaves_the_sequence_where_it_was() {
    let (hub, alice) = (Hub::default(), Listener::new("alice", 1));
    joined(&hub, &alice, 0);
    deliver(&hub, durable(1_000_000));
    let feed = hub.feed(&lobby()).unwrap();
    assert_eq!((feed.give_up(), feed.gap(), feed.position()), (1, None, Some(0)));
    deliver(&hub, durable(1));
    assert_eq!(alice.heard(), ["1"]);
}

#[test]
fn a_frame_that_the_store_has_and_that_has_not_come_is_a_hole() {
    let (hub, alice) = (Hub::default(), Listener::new("alice", 1));
    joined(&hub, &alice, 4);
    let feed = hub.feed(&lobby()).unwrap();
    assert_eq!((feed.expect(4), feed.gap()), (None, None));
    assert_eq!(feed.expect(6), Some(Gap { after: 4, until: 6 }));
    deliver(&hub, durable(5));
    assert_eq!(feed.gap(), Some(Gap { after: 5, until: 6 }));
    deliver(&hub, durable(6));
    assert_eq!((feed.gap(), feed.expect(5)), (None, None), "what has come is not missed");
}

#[test]
fn frames_that_found_no_room_behind_a_hole_are_missed_once_it_is_filled() {
    let (hub, alice) = (Hub::default(), Listener::new("alice", 1));
    joined(&hub, &alice, 0);
    for seq in 2..=2_000 {
        deliver(&hub, durable(seq));
    }
    deliver(&hub, durable(1));
    let feed = hub.feed(&lobby()).unwrap();
    assert_eq!((feed.position(), feed.gap()), (Some(1_025), Some(Gap { after: 1_025, until: 2_000 })));
}

#[test]
fn a_feed_that_cannot_go_on_closes_its_sockets_and_who_comes_next_begins_anew() {
    let hub = Hub::default();
    let (alice, bob) = (Listener::new("alice", 1), Listener::new("bob", 2));
    joined(&hub, &alice, 7);
    let lost = hub.feed(&lobby()).unwrap();
    assert_eq!(hub.end(&lobby(), &lost), Some(1));
    let frames = alice.outbox.take();
    assert_eq!(frames[0].payload()[..2], 4203_u16.to_be_bytes());
    assert!(alice.subscriber.is_gone() && hub.feed(&lobby()).is_none());

    joined(&hub, &bob, 3);
    assert_eq!(hub.end(&lobby(), &lost), None, "the new feed is another one");
    deliver(&hub, durable(4));
    assert_eq!(bob.heard(), ["4"]);
    assert!(!hub.leave(&lobby(), alice.subscriber.session), "who was cut off leaves nothing");
    assert!(hub.leave(&lobby(), bob.subscriber.session));
}

#[test]
fn every_recipient_shares_the_same_bytes() {
    let hub = Hub::default();
    let (alice, bob) = (Listener::new("alice", 1), Listener::new("bob", 2));
    joined(&hub, &alice, 0);
    joined(&hub, &bob, 0);
    deliver(&hub, durable(1));
    let (a, b) = (alice.outbox.take(), bob.outbox.take());
    assert_eq!(a[0].as_bytes().as_ptr(), b[0].as_bytes().as_ptr());
}

#[test]
fn what_comes_during_a_join_follows_the_snapshot_without_hole_or_repeat() {
    let (hub, alice) = (Hub::default(), Listener::new("alice", 1));
    let (feed, first) = hub.join(&lobby(), Arc::clone(&alice.subscriber));
    assert!(first);
    deliver(&hub, durable(3));
    feed.open_at(Some(epoch()), 2);
    deliver(&hub, durable(4));
    assert!(alice.heard().is_empty());
    alice.subscriber.go_live(3);
    deliver(&hub, durable(5));
    assert_eq!(alice.heard(), ["4", "5"]);
}

#[test]
fn a_crowd_that_is_announced_during_a_join_costs_announcements_and_not_the_socket() {
    let (hub, alice) = (Hub::default(), Listener::new("alice", 1));
    let (feed, _) = hub.join(&lobby(), Arc::clone(&alice.subscriber));
    feed.open_at(Some(epoch()), 0);
    for _ in 0..1_500 {
        deliver(&hub, signal("bob is here", Audience::Channel));
    }
    deliver(&hub, durable(1));
    assert!(!alice.outbox.is_closing());
    alice.subscriber.go_live(0);
    deliver(&hub, durable(2));
    assert_eq!(alice.heard(), ["1", "2"], "what is ephemeral made room");
}

#[test]
fn a_join_that_more_messages_overtake_than_may_wait_ends_with_position_lost() {
    let (hub, alice) = (Hub::default(), Listener::new("alice", 1));
    let (feed, _) = hub.join(&lobby(), Arc::clone(&alice.subscriber));
    feed.open_at(Some(epoch()), 0);
    for seq in 1..=1_024 {
        deliver(&hub, durable(seq));
    }
    assert!(!alice.outbox.is_closing());
    deliver(&hub, durable(1_025));
    assert_eq!(alice.outbox.take()[0].payload()[..2], 4203_u16.to_be_bytes());
}

#[test]
fn an_audience_reaches_its_members_alone() {
    let hub = Hub::default();
    let (alice, bob) = (Listener::new("alice", 1), Listener::new("bob", 2));
    joined(&hub, &alice, 0);
    joined(&hub, &bob, 0);
    let id = |name: &str| name.parse::<UserId>().unwrap();
    deliver(&hub, signal("all", Audience::Channel));
    deliver(&hub, signal("not alice", Audience::Except(id("alice"))));
    deliver(&hub, signal("alice", Audience::Users(vec![id("alice"), id("carol")])));
    assert_eq!(alice.heard(), ["all", "alice"]);
    assert_eq!(bob.heard(), ["all", "not alice"]);
}

#[test]
fn the_socket_that_spoke_hears_its_own_copy() {
    let hub = Hub::default();
    let (alice, bob) = (Listener::new("alice", 1), Listener::new("bob", 2));
    joined(&hub, &alice, 0);
    joined(&hub, &bob, 0);
    let echo = Some((alice.subscriber.session, WireFrame::text(b"mine")));
    deliver(&hub, Delivery { echo, ..durable(1) });
    assert_eq!((alice.heard(), bob.heard()), (vec!["mine".to_owned()], vec!["1".to_owned()]));
}

#[test]
fn a_revoked_member_hears_nothing_more() {
    let hub = Hub::default();
    let (alice, bob) = (Listener::new("alice", 1), Listener::new("bob", 2));
    joined(&hub, &alice, 0);
    joined(&hub, &bob, 0);
    hub.revoke(&lobby(), &alice.subscriber.user);
    deliver(&hub, durable(1));
    assert!(alice.heard().is_empty() && alice.subscriber.is_gone());
    assert_eq!(bob.heard(), ["1"]);
}

#[test]
fn the_last_session_takes_the_feed_with_it() {
    let hub = Hub::default();
    let (alice, bob) = (Listener::new("alice", 1), Listener::new("bob", 2));
    joined(&hub, &alice, 0);
    joined(&hub, &bob, 0);
    assert!(!hub.leave(&lobby(), alice.subscriber.session));
    assert!(hub.leave(&lobby(), bob.subscriber.session));
    assert!(hub.channels().is_empty());
    assert!(!hub.leave(&lobby(), bob.subscriber.session));
}

#[test]
fn a_slow_client_loses_ephemeral_frames_first_and_then_its_socket() {
    let outbox = Outbox::new(None, 100);
    let frame = |text: &str| WireFrame::text(text.repeat(38).as_bytes());
    outbox.push(frame("a"), Class::Durable);
    outbox.push(frame("b"), Class::Ephemeral);
    outbox.push(frame("c"), Class::Ephemeral);
    assert_eq!(outbox.queued(), 80, "the third found no room and was shed");
    outbox.push(frame("d"), Class::Durable);
    assert_eq!(outbox.queued(), 80, "the queued ephemeral frame made room");
    assert!(!outbox.is_closing());
    outbox.push(frame("e"), Class::Durable);
    assert!(outbox.is_closing());
    let left = outbox.take();
    assert_eq!(left.len(), 1, "only the close is sent");
    assert_eq!(left[0].payload()[..2], 4202_u16.to_be_bytes());
    outbox.push(frame("f"), Class::Durable);
    assert_eq!(outbox.queued(), 0, "nothing follows a close");
}

#[tokio::test]
async fn a_sender_that_waits_for_room_never_makes_a_slow_consumer() {
    const FRAMES: usize = 400;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (_reads, writes) = listener.accept().await.unwrap().0.into_split();
    let outbox = Arc::new(Outbox::new(Some(writes), 1 << 20));
    let frame = WireFrame::text("x".repeat(64 * 1024 - 10).as_bytes());
    let sending = async {
        for _ in 0..FRAMES {
            outbox.has_room(frame.len()).await;
            assert!(outbox.queued() <= 1 << 20);
            outbox.push(frame.clone(), Class::Durable);
        }
        assert!(!outbox.is_closing());
    };
    // 25 MiB: more than the kernel buffers for a connection whose other end does not read, so the sender has to wait.
    let mut received = vec![0; frame.len() * FRAMES];
    tokio::select! {
        (_, read) = async { tokio::join!(sending, client.read_exact(&mut received)) } => assert!(read.is_ok()),
        () = outbox.run() => panic!("the outbox ended"),
    }
    outbox.close(Close::Normal);
    // This will never fit; the close must release whoever waits for it.
    outbox.has_room(usize::MAX / 2).await;
}

/// A channel with many sessions, none of which reads.
fn large(hub: &Hub, sessions: usize) -> (Arc<Feed>, Vec<Listener>) {
    let listeners: Vec<_> = (0..sessions).map(|n| Listener::new("alice", n as u128)).collect();
    for listener in &listeners {
        joined(hub, listener, 0);
    }
    (hub.feed(&lobby()).unwrap(), listeners)
}

#[test]
fn a_large_channel_is_handed_out_by_and_by_and_what_follows_comes_after_all_of_it() {
    let hub = Hub::default();
    let (feed, listeners) = large(&hub, 1_000);
    assert!(feed.is_large());
    let reached = || listeners.iter().filter(|listener| listener.outbox.queued() > 0).count();
    let followed = Arc::new(AtomicBool::new(false));
    let follows = Arc::clone(&followed);
    feed.accept(vec![durable(1)], Some(Box::new(move || follows.store(true, Ordering::Relaxed))));
    let mut handing_out = Box::pin(feed.hand_out_by_and_by());
    let mut steps = Vec::new();
    while handing_out.as_mut().now_or_never().is_none() {
        steps.push(reached());
        assert!(!followed.load(Ordering::Relaxed));
        // Already being handed out, so this leaves it to the other.
        feed.hand_out();
        assert_eq!(reached(), *steps.last().unwrap());
    }
    assert!(steps.iter().copied().eq((64..1_000).step_by(64).chain([1_000])), "{steps:?}");
    assert!(followed.load(Ordering::Relaxed));
}

#[test]
fn handing_out_that_is_given_up_or_panics_leaves_the_channel_to_the_next() {
    let hub = Hub::default();
    let (feed, listeners) = large(&hub, 300);
    feed.accept(vec![durable(1)], None);
    assert!(feed.hand_out_by_and_by().now_or_never().is_none(), "and it is dropped");
    feed.accept(vec![durable(2)], Some(Box::new(|| panic!("a fan-out that goes wrong"))));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| feed.hand_out()));
    assert!(panicked.is_err());
    feed.accept(vec![durable(3)], None);
    feed.hand_out();
    let last = listeners.last().unwrap();
    assert_eq!(last.outbox.take().len(), 2, "the one that was given up half-way did not reach it");
}

#[test]
fn what_a_large_channel_cannot_hand_out_in_time_is_bounded_and_read_later() {
    const MOST: u64 = 8_192;
    let hub = Hub::default();
    let (feed, _listeners) = large(&hub, 300);
    let burst: Vec<Delivery> = (1..=MOST + 5).map(durable).collect();
    assert_eq!(feed.accept(burst, None), Some(Gap { after: MOST, until: MOST + 5 }));
    assert!(!feed.has_room());
    assert!(feed.accept(vec![signal("too much", Audience::Channel)], None).is_some());
    assert_eq!(feed.position(), Some(MOST));
    feed.hand_out();
    assert!(feed.has_room());
    // As a repair reads them from the store.
    for seq in MOST + 1..=MOST + 5 {
        feed.deliver(durable(seq));
    }
    assert_eq!((feed.position(), feed.gap()), (Some(MOST + 5), None));
}

/// Several threads deliver the same frames in different orders, as the committer, the bus and a repair do, while
/// sessions join.
#[test]
fn whoever_brings_them_each_session_hears_each_frame_once_and_in_order() {
    const FRAMES: u64 = 600;
    let mut dice = Dice::new();
    let hub = Hub::default();
    let first = roomy(1);
    joined(&hub, &first, 0);
    let feed = hub.feed(&lobby()).unwrap();
    let (given, called) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let mut later = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut frames: Vec<u64> = (1..=FRAMES).collect();
            // Nearly in order: each may swap places with one of the next few.
            for at in 0..frames.len() {
                let with = (at + dice.roll(8)).min(frames.len() - 1);
                frames.swap(at, with);
            }
            let batches: Vec<usize> = (0..frames.len()).map(|_| 1 + dice.roll(5)).collect();
            let (feed, given, called) = (&feed, &given, &called);
            scope.spawn(move || {
                let (mut rest, mut sizes) = (&frames[..], batches.into_iter());
                while !rest.is_empty() {
                    let (batch, others) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                    rest = others;
                    let called = Arc::clone(called);
                    given.fetch_add(1, Ordering::Relaxed);
                    let then = Box::new(move || {
                        called.fetch_add(1, Ordering::Relaxed);
                    });
                    feed.accept(batch.iter().copied().map(durable).collect(), Some(then));
                    feed.hand_out();
                }
            });
        }
        for number in 2..40 {
            let listener = roomy(number);
            hub.join(&lobby(), Arc::clone(&listener.subscriber));
            std::thread::yield_now();
            // As far as a read of the store would reach now.
            let after = feed.position().unwrap();
            listener.subscriber.go_live(after);
            later.push((listener, after));
        }
    });
    // A frame left to whoever was handing out is out once that one has finished.
    assert_eq!((feed.position(), feed.gap()), (Some(FRAMES), None));
    assert_eq!(called.load(Ordering::Relaxed), given.load(Ordering::Relaxed), "what follows is called once each");
    for (listener, after) in later.into_iter().chain([(first, 0)]) {
        let heard: Vec<u64> = listener.heard().iter().map(|frame| frame.parse().unwrap()).collect();
        assert!(heard.iter().copied().eq(after + 1..=FRAMES), "after {after}: {heard:?}");
    }
}

/// A listener that keeps everything it is sent.
fn roomy(number: u128) -> Listener {
    let outbox = Arc::new(Outbox::new(None, 1 << 20));
    let session = SessionId(Uuid::from_u128(number));
    let subscriber = Subscriber::new(session, "alice".parse().unwrap(), Arc::clone(&outbox), Arc::default());
    Listener { subscriber: Arc::new(subscriber), outbox }
}
