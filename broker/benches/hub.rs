//! What fan-out costs: one frame, encoded once, to every session of a channel.
//!
//! The sessions have no sockets, so this is the cost before the write: finding the channel, its order, and an entry in each
//! session's queue. Divide a row's time by its number of sessions for the cost of a recipient.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use switchboard::bus::redis::BusKeys;
use switchboard::config::{RateLimits, ScopedRates};
use switchboard::hub::{Class, Delivery, Hub, Outbox, Subscriber};
use switchboard::model::{Audience, ChannelId, ChannelKey, Message, MessageId, SessionId, Timestamp, User};
use switchboard::protocol::{MessageFrame, WireFrame};
use switchboard::rates::Rates;
use tokio::sync::Notify;
use uuid::Uuid;

/// Frames between two emptyings of the queues, which are not counted.
const ROUND: u64 = 16;

fn lobby() -> ChannelKey {
    ChannelKey { tenant: "acme".parse().expect("a slug"), channel: ChannelId(Uuid::from_u128(1)) }
}

fn message(seq: u64) -> Message {
    let raw = |text: String| serde_json::value::RawValue::from_string(text).expect("JSON");
    Message {
        id: MessageId(Uuid::from_u128(u128::from(seq))),
        channel: lobby().channel,
        seq,
        kind: "chat.message".parse().expect("a kind"),
        sender: User { id: "7".parse().expect("an id"), username: "alice".parse().expect("a name") },
        content: raw(format!("\"{}\"", "x".repeat(100))),
        reply_to: None,
        attachments: raw("[]".to_owned()),
        created_at: Timestamp(1_700_000_000_000),
        edited_at: None,
        deleted_at: None,
        read_by: Vec::new(),
    }
}

fn encode(message: &Message) -> WireFrame {
    WireFrame::json(&MessageFrame { kind: &message.kind, channel: message.channel, seq: message.seq, message })
}

struct Room {
    hub: Hub,
    key: ChannelKey,
    outboxes: Vec<Arc<Outbox>>,
    seq: u64,
}

impl Room {
    fn with(sessions: u128) -> Self {
        let (hub, key) = (Hub::default(), lobby());
        let outboxes = (0..sessions)
            .map(|number| {
                let outbox = Arc::new(Outbox::new(None, 1 << 20));
                let user = number.to_string().parse().expect("an id");
                let session = SessionId(Uuid::from_u128(number));
                let place = Arc::new(Subscriber::new(session, user, Arc::clone(&outbox), Arc::new(Notify::new())));
                hub.join(&key, Arc::clone(&place)).0.open_at(None, 0);
                place.go_live(0);
                outbox
            })
            .collect();
        Self { hub, key, outboxes, seq: 0 }
    }

    /// The time of delivering so many frames, encoding included; emptying the queues is not.
    fn deliver(&mut self, frames: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = frames;
        while left > 0 {
            let round = left.min(ROUND);
            #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
            let began = Instant::now();
            for _ in 0..round {
                self.seq += 1;
                let delivery = Delivery {
                    seq: Some(self.seq),
                    class: Class::Durable,
                    audience: Audience::Channel,
                    frame: encode(&message(self.seq)),
                    echo: None,
                };
                black_box(self.hub.feed(&self.key).and_then(|feed| feed.deliver(delivery)));
            }
            spent += began.elapsed();
            for outbox in &self.outboxes {
                let heard = outbox.take();
                assert_eq!(heard.len() as u64, round, "every session heard every frame");
            }
            left -= round;
        }
        spent
    }
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub/deliver");
    for sessions in [1, 100, 10_000] {
        let mut room = Room::with(sessions);
        group.throughput(Throughput::Elements(u64::try_from(sessions).expect("a small number")));
        group.bench_function(BenchmarkId::from_parameter(sessions), |bencher| {
            bencher.iter_custom(|frames| room.deliver(frames));
        });
    }
    group.finish();
    let said = message(1);
    // What a message between nodes costs beyond its way: once to seal it, and once on each node that receives it.
    let (keys, node, channel) = (BusKeys::new(b"the secret of all nodes", None), [7; 16], lobby().to_string());
    let (now, frame) = (Timestamp(1_700_000_000_000), encode(&said).payload());
    let sealed = keys.seal(&node, &channel, now, &frame);
    let seal = || keys.seal(&node, black_box(&channel), now, black_box(&frame));
    criterion.bench_function("bus/seal", |bencher| bencher.iter(seal));
    let open = || keys.open(black_box(&channel), now, black_box(&sealed));
    criterion.bench_function("bus/open", |bencher| bencher.iter(open));
    // Of each scope as many as there can be, so that none is refused.
    let most = Some("1000M/s".parse().expect("a rate"));
    let frames = ScopedRates { member: most, tenant: most, address: most };
    let rates = Rates::new(&RateLimits { frames, ..RateLimits::default() });
    let (tenant, user) = (lobby().tenant, "alice".parse().expect("an id"));
    let meter = rates.frames_of(&tenant, &user, IpAddr::from([192, 0, 2, 1]).into());
    criterion.bench_function("rates/frame", |bencher| bencher.iter(|| meter.take().is_ok()));
    criterion.bench_function("hub/encode", |bencher| bencher.iter(|| encode(black_box(&said))));
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
