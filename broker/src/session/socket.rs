//! The inbound half of a socket: whole text messages, and the rules of RFC 6455.
//!
//! The WebSocket library parses frames. It does not reject unmasked frames, bounds a frame but not a message, and
//! leaves closing to its user; those rules are enforced here. The library's 8 KiB buffer exists only while part of a
//! frame is in it, because most sockets are silent most of the time.

use std::future::poll_fn;
use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fastwebsockets::{CloseCode, Frame, OpCode, Role, WebSocketError, WebSocketRead, after_handshake_split};
use tokio::io::{AsyncRead, AsyncReadExt, Chain, ReadBuf, Sink};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::protocol::{Close, MAX_READ};

/// Largest payload of a control frame, in bytes (RFC 6455, section 5.5).
const MAX_CONTROL: usize = 125;

/// Bytes of the first read. The rest of a longer frame goes into the library's buffer.
const FIRST_BYTES: usize = 4_096;

/// A message from the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// A complete text message.
    Text(String),
    /// Must be answered with a pong of the same payload.
    Ping(Vec<u8>),
    Pong,
}

/// Why the socket is not read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The broker closes the connection.
    Close(Close),
    /// The client has closed; this is the answer.
    Answer(Close),
    /// The connection is gone.
    Gone,
}

pub(super) struct Reader {
    half: Arc<OwnedReadHalf>,
    /// Bytes that arrived right behind the handshake, until they are read.
    early: Bytes,
    /// `None` while nothing received is left to parse.
    frames: Option<Frames>,
    /// The parts received so far of a fragmented text message.
    partial: Option<Vec<u8>>,
}

/// The library's parser, with an account of its buffer.
struct Frames {
    socket: WebSocketRead<Chain<Cursor<Bytes>, Counted>>,
    /// Bytes handed to the parser.
    given: Arc<AtomicUsize>,
    /// Bytes of the frames it has returned, assuming that each was encoded as briefly as possible.
    read: usize,
}

/// The socket's read half, counting bytes.
struct Counted {
    half: Arc<OwnedReadHalf>,
    given: Arc<AtomicUsize>,
}

impl Frames {
    fn new(half: &Arc<OwnedReadHalf>, early: Bytes) -> Self {
        let given = Arc::new(AtomicUsize::new(early.len()));
        let counted = Counted { half: Arc::clone(half), given: Arc::clone(&given) };
        let (mut socket, _): (_, fastwebsockets::WebSocketWrite<Sink>) =
            after_handshake_split(Cursor::new(early).chain(counted), tokio::io::sink(), Role::Server);
        socket.set_auto_close(false);
        socket.set_auto_pong(false);
        socket.set_max_message_size(MAX_READ + 1);
        Self { socket, given, read: 0 }
    }

    /// Whether the buffer is empty. A client that encodes a length in more bytes than necessary merely keeps its buffer
    /// allocated.
    fn is_empty(&self) -> bool {
        self.read == self.given.load(Ordering::Relaxed)
    }
}

/// Bytes of a masked frame in its shortest encoding.
fn frame_length(payload: usize) -> usize {
    const MASK: usize = 4;
    let length = match payload {
        0..=125 => 0,
        126..=65_535 => 2,
        _ => 8,
    };
    2 + length + MASK + payload
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream: &TcpStream = self.half.as_ref().as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read(into.initialize_unfilled()) {
                Ok(count) => {
                    into.advance(count);
                    self.given.fetch_add(count, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Reader {
    /// Reads a socket after its handshake. `early` is what arrived right behind it.
    pub(super) fn new(half: OwnedReadHalf, early: Bytes) -> Self {
        Self { half: Arc::new(half), early, frames: None, partial: None }
    }

    /// The next message. Not cancel-safe: a half-read frame would be lost. Keep the future until it completes or the
    /// socket is dropped.
    pub(super) async fn next(&mut self) -> Result<Inbound, End> {
        loop {
            if self.frames.as_ref().is_some_and(Frames::is_empty) {
                self.frames = None;
            }
            if self.frames.is_none() {
                if self.early.is_empty() {
                    self.early = self.first_bytes().await?;
                }
                self.frames = Some(Frames::new(&self.half, std::mem::take(&mut self.early)));
            }
            let Frames { socket, read, .. } = self.frames.as_mut().expect("it was there or made");
            let mut frame = socket.read_frame(&mut no_reply).await.map_err(|error| end(&error))?;
            *read += frame_length(frame.payload.len());
            if !is_masked(&mut frame) || (is_control(frame.opcode) && frame.payload.len() > MAX_CONTROL) {
                return Err(End::Close(Close::ProtocolError));
            }
            match frame.opcode {
                OpCode::Close => return Err(End::Answer(answer_to_close(&frame.payload))),
                OpCode::Ping => return Ok(Inbound::Ping(frame.payload.to_vec())),
                OpCode::Pong => return Ok(Inbound::Pong),
                OpCode::Binary => return Err(End::Close(Close::Unsupported)),
                OpCode::Text if self.partial.is_some() => return Err(End::Close(Close::ProtocolError)),
                OpCode::Text if frame.fin => return text(frame.payload.into()),
                OpCode::Text => self.partial = Some(frame.payload.into()),
                OpCode::Continuation => {
                    let Some(partial) = &mut self.partial else {
                        return Err(End::Close(Close::ProtocolError));
                    };
                    if partial.len() + frame.payload.len() > MAX_READ {
                        return Err(End::Close(Close::TooBig));
                    }
                    partial.extend_from_slice(&frame.payload);
                    if frame.fin {
                        return text(self.partial.take().unwrap_or_default());
                    }
                }
            }
        }
    }

    /// Registers this task's waker with the socket, replacing that of the HTTP task: until then the socket would keep
    /// the memory of that task alive.
    pub(super) async fn take_over(&self) {
        let stream: &TcpStream = self.half.as_ref().as_ref();
        poll_fn(|context| {
            // The readiness itself is asked for again before the first read.
            let _ = stream.poll_read_ready(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for bytes and takes them into a stack buffer, so that an idle socket holds none.
    async fn first_bytes(&self) -> Result<Bytes, End> {
        let stream: &TcpStream = self.half.as_ref().as_ref();
        let read = poll_fn(|context| {
            loop {
                ready!(stream.poll_read_ready(context))?;
                let mut bytes = [0; FIRST_BYTES];
                match stream.try_read(&mut bytes) {
                    Ok(count) => return Poll::Ready(Ok(Bytes::copy_from_slice(&bytes[..count]))),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        });
        read.await.ok().filter(|bytes| !bytes.is_empty()).ok_or(End::Gone)
    }

    /// Reads until the client has closed as well. Hanging up earlier could send a reset that overtakes the close frame.
    pub(super) async fn until_closed(&mut self) {
        while self.next().await.is_ok() {}
    }
}

/// Never called: automatic pongs and closes are off.
async fn no_reply(_: Frame<'static>) -> Result<(), WebSocketError> {
    Ok(())
}

fn text(bytes: Vec<u8>) -> Result<Inbound, End> {
    String::from_utf8(bytes).map(Inbound::Text).map_err(|_| End::Close(Close::InvalidText))
}

/// The library does not expose the mask, but encodes it when asked to format the header.
fn is_masked(frame: &mut Frame<'_>) -> bool {
    let mut head = [0; 16];
    frame.fmt_head(&mut head);
    head[1] & 0x80 != 0
}

fn is_control(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
}

fn answer_to_close(payload: &[u8]) -> Close {
    match payload {
        [] => Close::Normal,
        [high, low, reason @ ..] if CloseCode::from(u16::from_be_bytes([*high, *low])).is_allowed() => {
            if std::str::from_utf8(reason).is_ok() {
                Close::Normal
            } else {
                Close::InvalidText
            }
        }
        _ => Close::ProtocolError,
    }
}

fn end(error: &WebSocketError) -> End {
    match error {
        WebSocketError::UnexpectedEOF | WebSocketError::IoError(_) | WebSocketError::ConnectionClosed => End::Gone,
        WebSocketError::FrameTooLarge => End::Close(Close::TooBig),
        WebSocketError::InvalidUTF8 => End::Close(Close::InvalidText),
        _ => End::Close(Close::ProtocolError),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Feeds the reader these bytes from a client.
    async fn read(bytes: &[u8]) -> Result<Inbound, End> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (half, _writer) = server.into_split();
        let (early, late) = bytes.split_at(bytes.len() / 2);
        client.write_all(late).await.unwrap();
        client.shutdown().await.unwrap();
        Reader::new(half, Bytes::copy_from_slice(early)).next().await
    }

    /// A client frame with a zero mask, so that the payload stays readable.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..=125 => bytes.push(0x80 | u8::try_from(short).unwrap()),
            medium @ 126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                bytes.push(0x80 | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    #[tokio::test]
    async fn fragments_become_one_message() {
        let bytes = [frame(0x01, "hé".as_bytes()).as_slice(), &frame(0x00, b"l"), &frame(0x80, b"lo")].concat();
        assert_eq!(read(&bytes).await, Ok(Inbound::Text("héllo".to_owned())));
    }

    #[tokio::test]
    async fn utf_8_is_judged_of_the_whole_message() {
        let split = "é".as_bytes();
        let good = [frame(0x01, &split[..1]), frame(0x80, &split[1..])].concat();
        assert_eq!(read(&good).await, Ok(Inbound::Text("é".to_owned())));
        let bad = [frame(0x01, &split[..1]), frame(0x80, b"x")].concat();
        assert_eq!(read(&bad).await, Err(End::Close(Close::InvalidText)));
        assert_eq!(read(&frame(0x81, b"\xff")).await, Err(End::Close(Close::InvalidText)));
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_is_told_apart() {
        for (name, bytes, close) in [
            ("unmasked", vec![0x81, 0x02, b'h', b'i'], Close::ProtocolError),
            ("reserved bit", frame(0xc1, b"hi"), Close::ProtocolError),
            ("unknown opcode", frame(0x83, b"hi"), Close::ProtocolError),
            ("continuation of nothing", frame(0x80, b"hi"), Close::ProtocolError),
            ("text within text", [frame(0x01, b"h"), frame(0x81, b"i")].concat(), Close::ProtocolError),
            ("fragmented ping", frame(0x09, b""), Close::ProtocolError),
            ("long ping", frame(0x89, &[0; 126]), Close::ProtocolError),
            ("long pong", frame(0x8a, &[0; 126]), Close::ProtocolError),
            ("binary", frame(0x82, b"hi"), Close::Unsupported),
            ("too big", frame(0x81, &vec![b'x'; MAX_READ + 1]), Close::TooBig),
            ("too big in parts", [frame(0x01, &vec![b'x'; MAX_READ]), frame(0x80, b"x")].concat(), Close::TooBig),
        ] {
            assert_eq!(read(&bytes).await, Err(End::Close(close)), "{name}");
        }
        for (name, payload, close) in [
            ("close of one byte", b"x".as_slice(), Close::ProtocolError),
            ("close with a forbidden code", &1005_u16.to_be_bytes(), Close::ProtocolError),
            ("close", &1000_u16.to_be_bytes(), Close::Normal),
        ] {
            assert_eq!(read(&frame(0x88, payload)).await, Err(End::Answer(close)), "{name}");
        }
        assert_eq!(read(&frame(0x81, &vec![b'x'; MAX_READ])).await.map(|_| ()), Ok(()));
        assert_eq!(read(&[0x81]).await, Err(End::Gone));
    }
}
