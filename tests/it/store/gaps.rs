//! What a node reads from its store to fill a gap in a channel.

use std::sync::Arc;

use switchboard::bus::memory::Exchange;
use switchboard::hub::{Hub, Outbox, Subscriber};
use switchboard::model::{ChannelKey, SessionId};
use switchboard::protocol::WireFrame;
use switchboard::relay::{Relay, message_frame};
use switchboard_tests::DEADLINE;
use tokio::time::timeout;

use super::backing::{Backing, on_sqlite};
use super::scene::Scene;

/// Waits until a socket has so many frames.
async fn heard(outbox: &Outbox, frames: &mut Vec<WireFrame>, count: usize) {
    let hearing = async {
        while frames.len() < count {
            tokio::task::yield_now().await;
            frames.extend(outbox.take());
        }
    };
    timeout(DEADLINE, hearing).await.expect("the frames come");
}

/// A message of this node is in the store before it is published. Read from there, it would reach its sender without the id
/// that the sender chose.
#[tokio::test]
async fn a_gap_is_filled_to_its_end_and_what_a_node_is_about_to_publish_is_left_to_it() {
    on_sqlite(async |backing: Backing| {
        let scene = Scene::new(&backing).await;
        let alice = scene.member("alice").await;
        let channel = scene.channel(&[&alice]).await;
        let exchange = Exchange::new();
        let node = || {
            let (bus, inbox) = exchange.join();
            let store = Arc::clone(&scene.store);
            Relay::start(Arc::<Hub>::default(), Arc::new(bus), inbox, store, scene.clock.clone())
        };
        let (here, there) = (node(), node());
        let key = ChannelKey { tenant: scene.tenant.clone(), channel };
        let (session, outbox) = (SessionId(scene.clock.uuid()), Arc::new(Outbox::new(None, 1 << 20)));
        let subscriber = Subscriber::new(session, alice.id.clone(), Arc::clone(&outbox), Arc::default());
        let subscriber = Arc::new(subscriber);
        here.join(&key, Arc::clone(&subscriber)).await.expect("the store answers");
        subscriber.go_live(0);

        let mut said = Vec::new();
        for text in ["one", "two", "three"] {
            said.push(scene.done(&scene.saying(channel, &alice, text)).await.messages.remove(0));
        }
        // The first one of the other node is lost on its way.
        there.publish(&key, vec![message_frame(&said[1], None)], || (), Box::new(|| ()));
        let mut frames = Vec::new();
        heard(&outbox, &mut frames, 2).await;
        let id = "mine".parse().expect("an id");
        here.publish(&key, vec![message_frame(&said[2], Some((session, &id)))], || (), Box::new(|| ()));
        heard(&outbox, &mut frames, 3).await;
        let texts: Vec<String> =
            frames.iter().map(|frame| String::from_utf8_lossy(&frame.payload()).into_owned()).collect();
        for (text, part) in texts.iter().zip(["one", "two", r#""client_id":"mine""#]) {
            assert!(text.contains(part), "{texts:?}");
        }
    })
    .await;
}
