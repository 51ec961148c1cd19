//! A WebSocket spoken byte by byte, for what no proper client sends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::{Closed, DEADLINE};

/// The first byte of a frame that is a whole text message.
pub const TEXT: u8 = 0x81;
/// The first byte of a frame that begins a text message.
pub const TEXT_BEGIN: u8 = 0x01;
/// The first byte of a frame in the middle of a message.
pub const CONTINUE: u8 = 0x00;
/// The first byte of a frame that ends a message.
pub const CONTINUE_END: u8 = 0x80;
/// The first byte of a ping.
pub const PING: u8 = 0x89;
/// The first byte of a pong.
pub const PONG: u8 = 0x8A;
/// The first byte of a close.
pub const CLOSE: u8 = 0x88;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A connection.
#[derive(Debug)]
pub struct RawSocket {
    stream: BufReader<TcpStream>,
    patience: Duration,
}

/// Sends a request and reads the head of the answer, byte by byte, so that nothing after it is lost.
///
/// # Panics
/// When no whole head comes within [`DEADLINE`].
pub async fn request(address: SocketAddr, head: &str) -> (TcpStream, String) {
    request_within(DEADLINE, address, head).await
}

async fn request_within(bound: Duration, address: SocketAddr, head: &str) -> (TcpStream, String) {
    let connect = async { TcpStream::connect(address).await.expect("the broker listens") };
    let stream = timeout(bound, connect).await.expect("the broker accepts in time");
    request_on(bound, stream, head).await.expect("the broker answers")
}

/// The error: the broker hung up instead.
async fn request_on(bound: Duration, mut stream: TcpStream, head: &str) -> std::io::Result<(TcpStream, String)> {
    let exchange = async {
        stream.set_nodelay(true)?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        Ok((stream, String::from_utf8(answer).expect("the head of an answer is ASCII")))
    };
    timeout(bound, exchange).await.expect("the broker answers in time")
}

/// A connection from another of this machine's addresses.
///
/// # Panics
/// When the machine does not have that address, or nobody listens.
pub async fn connect_from(client: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.bind((client, 0).into()).expect("the machine has this address");
    socket.connect(address).await.expect("the broker listens")
}

/// The head of a proper upgrade request, to be changed by tests.
pub fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

impl RawSocket {
    /// Opens a socket.
    ///
    /// # Panics
    /// When the broker does not upgrade, or answers the key wrongly.
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_within(DEADLINE, address, path).await.expect("the broker answers")
    }

    /// As [`RawSocket::open`], with as much patience, then and later, as is given. None: the broker hung up, as it does
    /// when the head of a request takes ten seconds, which it may where two thousand come at once.
    pub async fn open_within(bound: Duration, address: SocketAddr, path: &str) -> Option<Self> {
        let stream = timeout(bound, TcpStream::connect(address)).await.expect("the broker accepts in time").ok()?;
        let (stream, answer) = request_on(bound, stream, &upgrade(path)).await.ok()?;
        Some(Self { patience: bound, ..Self::upgraded(stream, &answer) })
    }

    /// Opens a socket from another of this machine's addresses, such as 127.0.0.2.
    ///
    /// # Panics
    /// As [`RawSocket::open`].
    pub async fn open_from(client: IpAddr, address: SocketAddr, path: &str) -> Self {
        let stream = connect_from(client, address).await;
        let (stream, answer) = request_on(DEADLINE, stream, &upgrade(path)).await.expect("the broker answers");
        Self::upgraded(stream, &answer)
    }

    /// Opens a socket whose system takes in about this many bytes that nobody has read, and not as many as it likes.
    ///
    /// # Panics
    /// As [`RawSocket::open`].
    pub async fn open_narrow(address: SocketAddr, path: &str, bytes: u32) -> Self {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.expect("a socket can be made");
        socket.set_recv_buffer_size(bytes).expect("a TCP option");
        let stream = socket.connect(address).await.expect("the broker listens");
        let (stream, answer) = request_on(DEADLINE, stream, &upgrade(path)).await.expect("the broker answers");
        Self::upgraded(stream, &answer)
    }

    fn upgraded(stream: TcpStream, answer: &str) -> Self {
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The answer to this key stands in RFC 6455, section 1.3.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        Self { stream: BufReader::new(stream), patience: DEADLINE }
    }

    /// Sends a frame with this first byte, masked as clients must.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = header(first, 0x80, payload.len());
        frame.extend(KEY);
        frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.send_bytes(&frame).await;
    }

    /// Sends a frame that is not masked.
    pub async fn send_unmasked(&mut self, first: u8, payload: &[u8]) {
        let mut frame = header(first, 0, payload.len());
        frame.extend(payload);
        self.send_bytes(&frame).await;
    }

    /// Sends the header of a frame that claims a length and never keeps that promise.
    pub async fn send_claim(&mut self, first: u8, length: u64) {
        let mut frame = vec![first, 0x80 | 127];
        frame.extend(length.to_be_bytes());
        frame.extend(KEY);
        self.send_bytes(&frame).await;
    }

    /// Sends any bytes. A connection that the broker has closed takes them without complaint.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = timeout(self.patience, self.stream.write_all(bytes)).await;
        let _ = sent.expect("the broker reads or hangs up");
    }

    /// Waits for a text message that contains a part.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn text_with(&mut self, part: &str) -> String {
        let text = self.text_or_close(part).await;
        text.unwrap_or_else(|closed| panic!("closed while waiting for `{part}`: {closed:?}"))
    }

    /// Waits for a text message that contains a part. `Err`: the broker closed instead.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn text_or_close(&mut self, part: &str) -> Result<String, Closed> {
        loop {
            match self.frame().await {
                Some((TEXT, payload)) => {
                    let text = String::from_utf8(payload).expect("text frames are UTF-8");
                    if text.contains(part) {
                        return Ok(text);
                    }
                }
                Some((CLOSE, payload)) => return Err(closed(&payload)),
                Some(_) => {}
                None => panic!("the connection ended while waiting for `{part}`"),
            }
        }
    }

    /// Reads text messages up to and with one that contains any of some parts. `Err`: the broker closed before it.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn texts_until(&mut self, parts: &[&str]) -> Result<Vec<String>, Closed> {
        let mut texts = Vec::new();
        while !texts.last().is_some_and(|last: &String| parts.iter().any(|part| last.contains(part))) {
            texts.push(self.text_or_close("").await?);
        }
        Ok(texts)
    }

    /// Waits for a pong and returns its payload.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn pong(&mut self) -> Vec<u8> {
        loop {
            match self.frame().await {
                Some((PONG, payload)) => return payload,
                Some((CLOSE, payload)) => panic!("closed while waiting for a pong: {:?}", closed(&payload)),
                Some(_) => {}
                None => panic!("the connection ended while waiting for a pong"),
            }
        }
    }

    /// Waits for the broker's ping and returns its payload. It is not answered.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn ping(&mut self) -> Vec<u8> {
        loop {
            match self.frame().await {
                Some((PING, payload)) => return payload,
                Some((CLOSE, payload)) => panic!("closed while waiting for a ping: {:?}", closed(&payload)),
                Some(_) => {}
                None => panic!("the connection ended while waiting for a ping"),
            }
        }
    }

    /// Reads everything that the broker still sends: the text messages, and the close frame if there is one before the
    /// connection ends.
    ///
    /// # Panics
    /// When the broker falls silent for [`DEADLINE`] without hanging up.
    pub async fn drain(&mut self) -> (Vec<String>, Option<Closed>) {
        let mut texts = Vec::new();
        loop {
            match self.frame().await {
                Some((TEXT, payload)) => texts.push(String::from_utf8(payload).expect("text frames are UTF-8")),
                Some((CLOSE, payload)) => return (texts, Some(closed(&payload))),
                Some(_) => {}
                None => return (texts, None),
            }
        }
    }

    /// Waits for the broker's close frame.
    ///
    /// # Panics
    /// When the connection ends without one.
    pub async fn expect_close(&mut self) -> Closed {
        loop {
            match self.frame().await {
                Some((CLOSE, payload)) => return closed(&payload),
                Some(_) => {}
                None => panic!("the connection ended without a close frame"),
            }
        }
    }

    /// One frame: its first byte and its payload. `None`: the connection has ended.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.stream.read_u8().await.ok()?;
            let length = match self.stream.read_u8().await.ok()? {
                126 => u64::from(self.stream.read_u16().await.ok()?),
                127 => self.stream.read_u64().await.ok()?,
                short @ 0..126 => u64::from(short),
                masked => panic!("a server must not mask its frames, but the length byte is {masked}"),
            };
            let mut payload = vec![0; usize::try_from(length).expect("the broker sends no such frames")];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((first, payload))
        };
        timeout(self.patience, read).await.expect("the broker sends a frame or hangs up")
    }
}

fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => header.push(mask | short),
        (_, Ok(medium)) => {
            header.push(mask | 126);
            header.extend(medium.to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

fn closed(payload: &[u8]) -> Closed {
    match payload {
        [high, low, reason @ ..] => Closed {
            code: u16::from_be_bytes([*high, *low]),
            reason: String::from_utf8(reason.to_vec()).expect("a close reason is UTF-8"),
        },
        _ => Closed { code: 1005, reason: String::new() },
    }
}
