//! What `tests/fuzz` sees of a socket's reader: what it reads, and what it holds meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::{End, Inbound, Payload, Reader, Takes, Unfinished};
use crate::protocol::{Close, MAX_READ};

/// A reader with a budget of its own.
pub struct Socket {
    reader: Reader,
    unfinished: Arc<Unfinished>,
    /// Dropping it would close the connection for reading as well.
    _writer: OwnedWriteHalf,
}

/// A message that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Text(String),
    Ping(Vec<u8>),
    Pong,
}

/// Why nothing more is read.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Close(Close),
    Answer(Close),
    Gone,
}

/// What a reader holds, in bytes.
#[derive(Debug)]
pub struct Held {
    /// What has been received and not parsed.
    pub received: usize,
    /// The payload of a control frame.
    pub control: usize,
    /// What has arrived of a message.
    pub message: usize,
    /// The memory of that message.
    pub capacity: usize,
    /// What is taken of the budget.
    pub taken: usize,
}

impl Socket {
    /// Reads a connection. `budget` is for messages that are not complete.
    pub fn new(stream: TcpStream, early: Vec<u8>, budget: usize) -> Self {
        let unfinished = Unfinished::new(budget);
        let (half, writer) = stream.into_split();
        let address = std::net::IpAddr::from([127, 0, 0, 1]).into();
        let takes = Takes { most: MAX_READ, binary: false };
        let reader = Reader::new(half, Bytes::from(early), takes, (Arc::clone(&unfinished), address));
        Self { reader, unfinished, _writer: writer }
    }

    /// The next message. Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Seen, Ended> {
        match self.reader.next().await {
            Ok(Inbound::Text(text)) => Ok(Seen::Text(text)),
            Ok(Inbound::Ping(payload)) => Ok(Seen::Ping(payload)),
            Ok(Inbound::Pong) => Ok(Seen::Pong),
            #[cfg(feature = "conformance")]
            Ok(Inbound::Binary(_)) => unreachable!("it is not taken"),
            Err(End::Close(close)) => Err(Ended::Close(close)),
            Err(End::Answer(close)) => Err(Ended::Answer(close)),
            Err(End::Gone) => Err(Ended::Gone),
        }
    }

    /// Reads on as a socket does that closes.
    pub async fn until_closed(&mut self) {
        self.reader.until_closed().await;
    }

    pub fn held(&self) -> Held {
        let message = self.reader.message.as_ref().map_or((0, 0), |of| (of.bytes.len(), of.bytes.capacity()));
        let control = match self.reader.frame.as_ref().map(|frame| &frame.payload) {
            Some(Payload::Control(bytes)) => bytes.capacity(),
            _ => 0,
        };
        Held {
            received: self.reader.received.len(),
            control,
            message: message.0,
            capacity: message.1,
            taken: self.unfinished.taken(),
        }
    }
}
