//! Sockets that speak and listen, as cheap as they can be, since they share the machine with what they measure.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchboard_tests::raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What stands around the time at which a message was sent.
const MARK: u8 = b'@';

/// How many characters a message has.
pub(crate) const TEXT: usize = 100;

/// What was heard: when it was sent, and how long it took.
type Heard = Arc<Mutex<Vec<(Duration, Duration)>>>;

/// Sockets of which some speak.
pub(crate) struct Admission {
    start: Instant,
    speakers: Vec<OwnedWriteHalf>,
    silent: Vec<OwnedWriteHalf>,
    heard: Vec<Heard>,
    listening: JoinSet<()>,
}

impl Admission {
    /// Opens a socket for each path. The first of each channel speaks.
    pub(crate) async fn open(address: SocketAddr, paths: &[String], channels: usize) -> Self {
        let start = Instant::now();
        let (mut speakers, mut silent, mut heard, mut listening) = (Vec::new(), Vec::new(), Vec::new(), JoinSet::new());
        for (number, path) in paths.iter().enumerate() {
            let (stream, answer) = raw::request(address, &raw::upgrade(path)).await;
            assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
            let (read, write) = stream.into_split();
            if number < channels {
                speakers.push(write);
            } else {
                silent.push(write);
            }
            let own = Heard::default();
            listening.spawn(listen(read, start, Arc::clone(&own)));
            heard.push(own);
        }
        Self { start, speakers, silent, heard, listening }
    }

    /// Says so many messages a second, in one channel after the other, until a time.
    pub(crate) async fn speak(&mut self, rate: u32, until: Instant) {
        let (begun, gap) = (Instant::now(), Duration::from_secs(1) / rate);
        for number in 0.. {
            let next = begun + gap * number;
            if next >= until {
                return;
            }
            sleep_until(next).await;
            let sent = self.start.elapsed().as_micros();
            let mut message = format!("@{sent}@");
            message.extend(std::iter::repeat_n('x', TEXT - message.len()));
            let frame = format!(r#"{{"type":"chat.message","id":"{sent}-{number}","message":"{message}"}}"#);
            let speaker = usize::try_from(number).expect("few") % self.speakers.len();
            self.speakers[speaker].write_all(&text(frame.as_bytes(), true)).await.expect("the server reads");
        }
    }

    /// How long each delivery took of what was sent in this span.
    pub(crate) async fn heard(mut self, from: Instant, until: Instant) -> Vec<Duration> {
        self.listening.shutdown().await;
        drop((self.speakers, self.silent));
        let span = from - self.start..until - self.start;
        let all = self.heard.iter().flat_map(|own| own.lock().expect("nobody panics").clone());
        all.filter(|(sent, _)| span.contains(sent)).map(|(_, took)| took).collect()
    }
}

async fn listen(mut read: OwnedReadHalf, start: Instant, heard: Heard) {
    let mut frames = Frames::default();
    while frames.read_from(&mut read).await.is_ok() {
        while let Some(frame) = frames.next() {
            let mut parts = frame.split(|byte| *byte == MARK);
            let sent = parts.nth(1).and_then(|sent| std::str::from_utf8(sent).ok()?.parse().ok());
            if let Some(sent) = sent.map(Duration::from_micros) {
                heard.lock().expect("nobody panics").push((sent, start.elapsed().saturating_sub(sent)));
            }
        }
    }
}

/// A text frame; a client's has a mask, of zeros.
pub(crate) fn text(payload: &[u8], is_clients: bool) -> Vec<u8> {
    let mask = if is_clients { 0x80 } else { 0 };
    let mut frame = vec![raw::TEXT];
    match u8::try_from(payload.len()) {
        Ok(short @ ..=125) => frame.push(mask | short),
        _ => {
            frame.push(mask | 126);
            frame.extend(u16::try_from(payload.len()).expect("a short message").to_be_bytes());
        }
    }
    if is_clients {
        frame.extend([0; 4]);
    }
    frame.extend(payload);
    frame
}

/// Takes frames apart.
#[derive(Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    begin: usize,
}

impl Frames {
    /// Reads what has come; an error at the end of the connection.
    pub(crate) async fn read_from(&mut self, read: &mut OwnedReadHalf) -> std::io::Result<()> {
        self.bytes.drain(..self.begin);
        self.begin = 0;
        match read.read_buf(&mut self.bytes).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The payload of the next frame that is whole.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.begin..];
        let second = *rest.get(1)?;
        let (length, head) = match second & 0x7F {
            126 => (usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?])), 4),
            127 => (usize::try_from(u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?)).ok()?, 10),
            short => (usize::from(short), 2),
        };
        let head = head + if second & 0x80 == 0 { 0 } else { 4 };
        // The masks here are zeros.
        let payload = rest.get(head..head + length)?.to_vec();
        self.begin += head + length;
        Some(payload)
    }
}
