//! Publishers on real sockets, as cheap as they can be, since they share the machine with what they measure.
//!
//! Frames are put together and taken apart by hand, all publishers on one thread. They understand acks and nothing else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use switchboard::model::{ChannelId, Clock};
use switchboard_tests::raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// How many characters a message has.
pub(crate) const TEXT: usize = 100;

/// How long everyone publishes before it counts: plans are made, files and caches grow to their size.
const WARM_UP: Duration = Duration::from_secs(3);

/// Who publishes where.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) address: SocketAddr,
    pub(crate) channel: ChannelId,
    pub(crate) token: String,
}

/// What came of it.
pub(crate) struct Tally {
    /// Acks in all, those before and after the measured span counted in.
    pub(crate) acknowledged_in_all: u64,
    /// How long each message of the measured span took, in ascending order.
    waits: Vec<Duration>,
    span: Duration,
}

impl Tally {
    pub(crate) fn per_second(&self) -> f64 {
        self.waits.len() as f64 / self.span.as_secs_f64()
    }

    pub(crate) fn latencies(&self) -> String {
        let at = |percent: usize| self.waits[(self.waits.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
        format!("{:.1} ms half of them, {:.1} ms 99 of 100", at(50), at(99))
    }
}

/// Lets everyone publish with so many messages under way, measures for a span, and waits for the last acks.
pub(crate) async fn publish(publishers: Vec<Publisher>, ahead: usize, span: Duration) -> Tally {
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, run(publishers, ahead, span))
    });
    tokio::task::spawn_blocking(move || running.join().expect("every message is acknowledged")).await.expect("a thread")
}

async fn run(publishers: Vec<Publisher>, ahead: usize, span: Duration) -> Tally {
    let mut sockets = Vec::new();
    for publisher in publishers {
        sockets.push(Socket::open(publisher).await);
    }
    let measured = Instant::now() + WARM_UP;
    let measured = measured..measured + span;
    let work = sockets.into_iter().map(|socket| tokio::task::spawn_local(socket.publish(ahead, measured.clone())));
    let work: Vec<_> = work.collect();
    let (mut acknowledged_in_all, mut waits) = (0, Vec::new());
    for publisher in work {
        let (acknowledged, own) = publisher.await.expect("every message is acknowledged");
        acknowledged_in_all += acknowledged;
        waits.extend(own);
    }
    waits.sort_unstable();
    Tally { acknowledged_in_all, waits, span }
}

struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    /// What no other run has.
    run: u32,
}

impl Socket {
    async fn open(publisher: Publisher) -> Self {
        let path = format!("/ws/chat/{}/?token={}", publisher.channel, publisher.token);
        let (stream, answer) = raw::request(publisher.address, &raw::upgrade(&path)).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let run = u32::from_le_bytes(Clock::system().random());
        let mut socket = Self { stream, received: Vec::with_capacity(16 * 1024), run };
        socket.wait_for(b"{\"type\":\"channel.state\"").await;
        socket
    }

    /// Says one thing after the other, so many of them before the first one's ack, to the end of the measured time; returns how
    /// many were acknowledged in all, and how long those took whose ack came within it.
    async fn publish(mut self, ahead: usize, measured: Range<Instant>) -> (u64, Vec<Duration>) {
        let (mut said, mut acknowledged, mut waits, text) = (0, 0, Vec::new(), "x".repeat(TEXT));
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < ahead && Instant::now() < measured.end {
                // Those of one run are no repeats of another's.
                let id = format!("{:x}-{said}", self.run);
                let frame = frame(&format!(r#"{{"type":"chat.message","id":"{id}","message":"{text}"}}"#));
                under_way.push_back(Instant::now());
                self.stream.write_all(&frame).await.expect("the broker reads");
                said += 1;
            }
            let Some(began) = under_way.pop_front() else { return (acknowledged, waits) };
            self.wait_for(b"{\"type\":\"ack\"").await;
            acknowledged += 1;
            let ended = Instant::now();
            if measured.contains(&ended) {
                waits.push(ended - began);
            }
        }
    }

    /// Reads frames until one begins like this.
    async fn wait_for(&mut self, beginning: &[u8]) {
        loop {
            while let Some(payload) = take_frame(&mut self.received) {
                assert!(!payload.starts_with(b"{\"type\":\"error\""), "{}", String::from_utf8_lossy(&payload));
                if payload.starts_with(beginning) {
                    return;
                }
            }
            let read = self.stream.read_buf(&mut self.received).await.expect("the broker answers");
            assert_ne!(read, 0, "the broker hung up");
        }
    }
}

/// A whole text message, masked with zeros: what a client must do, at no cost.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![raw::TEXT];
    match u8::try_from(text.len()) {
        Ok(short @ ..=125) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(text.len()).expect("a short message").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// The payload of the first frame, if all of it is there.
fn take_frame(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (&second, rest) = received.get(1).zip(received.get(2..))?;
    let (head, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).expect("a length")),
        short => (2, usize::from(short)),
    };
    if received.len() < head + length {
        return None;
    }
    let mut frame: Vec<u8> = received.drain(..head + length).collect();
    Some(frame.split_off(head))
}
