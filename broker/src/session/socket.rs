//! The inbound half of a socket: whole messages, and the rules of RFC 6455.
//!
//! Payloads are read into the message that they belong to, as they arrive: whatever length a header claims, a message takes
//! at most twice of what has arrived of it, and [`FIRST_BYTES`]. Text is checked to be UTF-8 as it arrives, so that what
//! cannot become a text is not read to its end. A silent socket has no buffer at all, because most are silent most of the
//! time.
//!
//! Invariant: the reader always knows where the next frame begins, even after an error. A closing socket skips what the
//! client still sends until it finds the client's own close.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes};
use fastwebsockets::unmask;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::frame_header::{FrameHeader, Opcode};
use super::unfinished::{FREE, Room, Unfinished};
use crate::model::ClientAddress;
use crate::protocol::Close;

/// Bytes of the first read, and the least that a message grows by while more than that is to come.
const FIRST_BYTES: usize = FREE;

/// A message from the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// A complete text message.
    Text(String),
    /// A complete binary message.
    #[cfg(feature = "conformance")]
    Binary(Vec<u8>),
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

/// What a socket takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Takes {
    /// Maximum size of a message in bytes.
    pub(super) most: usize,
    pub(super) binary: bool,
}

pub(super) struct Reader {
    half: OwnedReadHalf,
    takes: Takes,
    /// What has been received and not parsed yet; at first, what arrived right behind the handshake.
    received: Bytes,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The message that is not complete yet.
    message: Option<Message>,
    /// The budget for messages that are not complete, and who takes from it.
    budget: (Arc<Unfinished>, ClientAddress),
    /// Whether messages are skipped, because the socket closes.
    is_closing: bool,
}

struct Frame {
    header: FrameHeader,
    /// Bytes of the payload that have not been read.
    left: u64,
    payload: Payload,
}

/// Where a payload goes.
enum Payload {
    Message,
    Control(Vec<u8>),
    /// The frame broke a rule.
    Nowhere,
}

/// What has been received of a message.
struct Message {
    bytes: Vec<u8>,
    is_text: bool,
    /// Maximum size in bytes.
    most: usize,
    room: Room,
    /// The length of what is known to be UTF-8.
    valid: usize,
}

impl Reader {
    /// Reads a socket after its handshake. `early` is what arrived right behind it.
    pub(super) fn new(
        half: OwnedReadHalf,
        early: Bytes,
        takes: Takes,
        budget: (Arc<Unfinished>, ClientAddress),
    ) -> Self {
        Self { half, takes, received: early, frame: None, message: None, budget, is_closing: false }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Inbound, End> {
        loop {
            if self.frame.is_none() {
                let header = self.header().await?;
                let payload = self.begin(&header);
                let (payload, end) = payload.map_or_else(|end| (Payload::Nowhere, Some(end)), |into| (into, None));
                self.frame = Some(Frame { header, left: header.length, payload });
                if let Some(end) = end {
                    return Err(self.give_up(end));
                }
            }
            if let Err(end) = self.payload().await {
                return Err(self.give_up(end));
            }
            if let Some(frame) = self.frame.take()
                && let Some(inbound) = self.complete(frame)?
            {
                return Ok(inbound);
            }
        }
    }

    /// Skips the rest of the frame, and forgets the message that it belongs to.
    fn give_up(&mut self, end: End) -> End {
        if let Some(frame) = &mut self.frame {
            frame.payload = Payload::Nowhere;
        }
        self.message = None;
        end
    }

    async fn header(&mut self) -> Result<FrameHeader, End> {
        loop {
            if let Some((header, length)) = FrameHeader::parse(&self.received) {
                self.received.advance(length);
                if self.received.is_empty() {
                    // It would go on holding its memory.
                    self.received = Bytes::new();
                }
                return Ok(header);
            }
            self.receive().await?;
        }
    }

    /// Judges a frame by its header.
    fn begin(&mut self, header: &FrameHeader) -> Result<Payload, End> {
        let error = Err(End::Close(Close::ProtocolError));
        if header.is_flawed {
            // After a close of its own, however wrong, the client sends nothing more that could be waited for.
            return if header.opcode == Opcode::Close { Err(End::Answer(Close::ProtocolError)) } else { error };
        }
        match header.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => return Ok(Payload::Control(Vec::new())),
            Opcode::Text | Opcode::Binary | Opcode::Continuation if self.is_closing => return Ok(Payload::Nowhere),
            Opcode::Binary if self.message.is_none() && !self.takes.binary => {
                return Err(End::Close(Close::Unsupported));
            }
            Opcode::Text | Opcode::Binary if self.message.is_none() => {
                let (unfinished, address) = &self.budget;
                let (room, is_text) = (unfinished.room(*address), header.opcode == Opcode::Text);
                self.message = Some(Message { bytes: Vec::new(), is_text, most: self.takes.most, room, valid: 0 });
            }
            Opcode::Continuation => {}
            Opcode::Text | Opcode::Binary | Opcode::Unknown => return error,
        }
        let Some(message) = &self.message else { return error };
        if header.length > (self.takes.most - message.bytes.len()) as u64 {
            return Err(End::Close(Close::TooBig));
        }
        Ok(Payload::Message)
    }

    /// Reads the rest of the frame's payload.
    async fn payload(&mut self) -> Result<(), End> {
        loop {
            let Some(frame) = self.frame.as_mut().filter(|frame| frame.left > 0) else { return Ok(()) };
            let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let is_direct = self.received.is_empty() && left > FIRST_BYTES;
            let into = match &mut frame.payload {
                Payload::Message => match &mut self.message {
                    Some(message) if is_direct || !self.received.is_empty() => {
                        let now = if is_direct { FIRST_BYTES } else { self.received.len() };
                        message.make_room(now.min(left), left, frame.header.is_final)?;
                        Some(&mut message.bytes)
                    }
                    _ => None,
                },
                Payload::Control(bytes) => Some(bytes),
                Payload::Nowhere => None,
            };
            let mut mask = frame.header.mask;
            mask.rotate_left(((frame.header.length - frame.left) % 4) as usize);
            if self.received.is_empty() {
                // What remains of a long payload goes straight to where it belongs.
                match into.filter(|_| is_direct) {
                    Some(into) => {
                        let before = into.len();
                        let count = receive_into(&self.half, into, left).await?;
                        unmask(&mut into[before..], mask);
                        frame.left -= count as u64;
                    }
                    None => {
                        self.receive().await?;
                        continue;
                    }
                }
            } else {
                let count = self.received.len().min(left);
                let bytes = self.received.split_to(count);
                if let Some(into) = into {
                    let before = into.len();
                    into.extend_from_slice(&bytes);
                    unmask(&mut into[before..], mask);
                }
                frame.left -= count as u64;
            }
            let is_complete = frame.header.is_final && frame.left == 0;
            if matches!(frame.payload, Payload::Message)
                && !is_complete
                && let Some(message) = &mut self.message
            {
                message.check()?;
            }
        }
    }

    /// What a frame is whose payload has been read.
    fn complete(&mut self, frame: Frame) -> Result<Option<Inbound>, End> {
        match frame.payload {
            Payload::Message if frame.header.is_final => {
                self.message.take().map_or(Ok(None), |message| message.whole().map(Some))
            }
            Payload::Message | Payload::Nowhere => Ok(None),
            Payload::Control(bytes) => match frame.header.opcode {
                Opcode::Close => Err(End::Answer(answer_to_close(&bytes))),
                Opcode::Ping => Ok(Some(Inbound::Ping(bytes))),
                _ => Ok(Some(Inbound::Pong)),
            },
        }
    }

    /// Registers this task's waker with the socket, replacing that of the HTTP task: until then the socket would keep
    /// the memory of that task alive.
    pub(super) async fn take_over(&self) {
        let stream: &TcpStream = self.half.as_ref();
        poll_fn(|context| {
            // The readiness itself is asked for again before the first read.
            let _ = stream.poll_read_ready(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for bytes and takes them into a stack buffer, so that an idle socket holds none.
    async fn receive(&mut self) -> Result<(), End> {
        let stream: &TcpStream = self.half.as_ref();
        let bytes = poll_fn(|context| {
            let mut bytes = [0; FIRST_BYTES];
            let count = ready!(poll_read(stream, context, |stream| stream.try_read(&mut bytes)))?;
            Poll::Ready(Ok::<_, End>(if self.received.is_empty() {
                Bytes::copy_from_slice(&bytes[..count])
            } else {
                [&self.received, &bytes[..count]].concat().into()
            }))
        });
        self.received = bytes.await?;
        Ok(())
    }

    /// Reads until the client has closed as well. Hanging up earlier could send a reset that overtakes the close frame.
    pub(super) async fn until_closed(&mut self) {
        self.is_closing = true;
        self.give_up(End::Gone);
        while !matches!(self.next().await, Err(End::Answer(_) | End::Gone)) {}
    }
}

impl Message {
    /// Makes room for so many bytes at least, of `left` that are still to come in the frame. The room at most doubles, so
    /// that a length which is only claimed costs nothing; and it does double where a message has many small parts.
    fn make_room(&mut self, bytes: usize, left: usize, is_final: bool) -> Result<(), End> {
        let (length, capacity) = (self.bytes.len(), self.bytes.capacity());
        if capacity - length >= bytes {
            return Ok(());
        }
        let most = if is_final { length + left } else { self.most };
        let capacity = (length + bytes).max((2 * length).min(most));
        if !self.room.grow(capacity) {
            return Err(End::Close(Close::Overloaded));
        }
        self.bytes.reserve_exact(capacity - length);
        Ok(())
    }

    /// Checks what has arrived since the last time. It may end within a character.
    fn check(&mut self) -> Result<(), End> {
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(End::Close(Close::InvalidText)),
        }
        Ok(())
    }

    /// The message, now that it is complete.
    fn whole(mut self) -> Result<Inbound, End> {
        self.bytes.shrink_to_fit();
        #[cfg(feature = "conformance")]
        if !self.is_text {
            return Ok(Inbound::Binary(self.bytes));
        }
        String::from_utf8(self.bytes).map(Inbound::Text).map_err(|_| End::Close(Close::InvalidText))
    }
}

/// Waits for bytes and appends them, at most `left` and as many as there is room for.
async fn receive_into(half: &OwnedReadHalf, into: &mut Vec<u8>, left: usize) -> Result<usize, End> {
    let stream: &TcpStream = half.as_ref();
    let room = left.min(into.capacity() - into.len());
    poll_fn(|context| poll_read(stream, context, |stream| stream.try_read_buf(&mut (&mut *into).limit(room)))).await
}

/// Reads as soon as there is something to read.
fn poll_read(
    stream: &TcpStream,
    context: &mut Context<'_>,
    mut read: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> Poll<Result<usize, End>> {
    loop {
        if ready!(stream.poll_read_ready(context)).is_err() {
            return Poll::Ready(Err(End::Gone));
        }
        match read(stream) {
            Ok(0) => return Poll::Ready(Err(End::Gone)),
            Ok(count) => return Poll::Ready(Ok(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(Err(End::Gone)),
        }
    }
}

/// What a close is answered with (RFC 6455, section 7.4).
fn answer_to_close(payload: &[u8]) -> Close {
    match payload {
        [] => Close::Normal,
        [high, low, reason @ ..] if may_be_sent(u16::from_be_bytes([*high, *low])) => {
            if std::str::from_utf8(reason).is_ok() { Close::Normal } else { Close::InvalidText }
        }
        _ => Close::ProtocolError,
    }
}

/// Whether a close frame may carry this code: those of IANA's registry that are for frames, and those of libraries and
/// applications.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::protocol::MAX_READ;

    const TAKES: Takes = Takes { most: MAX_READ, binary: false };

    /// Feeds the reader these bytes from a client.
    async fn read(bytes: &[u8]) -> Result<Inbound, End> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (half, _writer) = server.into_split();
        let (early, late) = bytes.split_at(bytes.len() / 2);
        client.write_all(late).await.unwrap();
        client.shutdown().await.unwrap();
        reader(half, Bytes::copy_from_slice(early), 1 << 30).next().await
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
            (
                "length in more bytes than it needs",
                vec![0x81, 0xfe, 0, 2, 0, 0, 0, 0, b'h', b'i'],
                Close::ProtocolError,
            ),
            ("binary within text", [frame(0x01, b"h"), frame(0x82, b"i")].concat(), Close::ProtocolError),
            ("too big", frame(0x81, &vec![b'x'; MAX_READ + 1]), Close::TooBig),
            ("too big in parts", [frame(0x01, &vec![b'x'; MAX_READ]), frame(0x80, b"x")].concat(), Close::TooBig),
        ] {
            assert_eq!(read(&bytes).await, Err(End::Close(close)), "{name}");
        }
        for (name, payload, close) in [
            ("close of one byte", b"x".as_slice(), Close::ProtocolError),
            (
                "close that is too long",
                &[3, 232].into_iter().chain([b'x'; 124]).collect::<Vec<_>>(),
                Close::ProtocolError,
            ),
            ("close with a forbidden code", &1005_u16.to_be_bytes(), Close::ProtocolError),
            ("close", &1000_u16.to_be_bytes(), Close::Normal),
        ] {
            assert_eq!(read(&frame(0x88, payload)).await, Err(End::Answer(close)), "{name}");
        }
        assert_eq!(read(&frame(0x81, &vec![b'x'; MAX_READ])).await.map(|_| ()), Ok(()));
        assert_eq!(read(&[0x81]).await, Err(End::Gone));
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            assert!(!may_be_sent(code), "{code}");
        }
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
    }

    /// A reader, and the client that it reads.
    async fn pair() -> (Reader, TcpStream) {
        pair_with(1 << 30).await
    }

    /// As above, with a budget for unfinished messages.
    async fn pair_with(budget: usize) -> (Reader, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (half, _writer) = listener.accept().await.unwrap().0.into_split();
        (reader(half, Bytes::new(), budget), client)
    }

    fn reader(half: OwnedReadHalf, early: Bytes, budget: usize) -> Reader {
        Reader::new(half, early, TAKES, (Unfinished::new(budget), std::net::IpAddr::from([127, 0, 0, 1]).into()))
    }

    #[tokio::test]
    async fn what_cannot_become_a_text_is_not_read_to_its_end() {
        let split = "é".as_bytes();
        for sent in [
            // A frame that is not complete, and a message that is not.
            frame(0x81, &[b"abc", split, b"\xff", &[b'x'; 90_000]].concat())[..8_000].to_vec(),
            [frame(0x01, &split[..1]), frame(0x00, b"\xff")].concat(),
            // No continuation makes this a character.
            frame(0x01, b"\xf4\x90"),
        ] {
            let (mut reader, mut client) = pair().await;
            client.write_all(&sent).await.unwrap();
            assert_eq!(reader.next().await, Err(End::Close(Close::InvalidText)));
        }
    }

    /// Every way in which a message can be cut into reads.
    #[tokio::test]
    async fn it_does_not_matter_when_bytes_arrive() {
        let text = "é".repeat(70);
        let sent =
            [frame(0x01, text.as_bytes()), frame(0x89, b"ping"), frame(0x80, b"end"), frame(0x81, b"next")].concat();
        for cut in 1..sent.len() {
            let (mut reader, mut client) = pair().await;
            reader.received = Bytes::copy_from_slice(&sent[..cut]);
            client.write_all(&sent[cut..]).await.unwrap();
            assert_eq!(reader.next().await, Ok(Inbound::Ping(b"ping".to_vec())), "{cut}");
            assert_eq!(reader.next().await, Ok(Inbound::Text(format!("{text}end"))), "{cut}");
            assert_eq!(reader.next().await, Ok(Inbound::Text("next".to_owned())), "{cut}");
        }
    }

    #[tokio::test]
    async fn a_long_message_arrives_whole_and_masked_bytes_are_unmasked_by_their_place() {
        let (mut reader, mut client) = pair().await;
        let text: String = (0..MAX_READ).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
        let mut sent = frame(0x81, text.as_bytes());
        let mask = [0x11, 0x22, 0x13, 0x24];
        sent[10..14].copy_from_slice(&mask);
        unmask(&mut sent[14..], mask);
        let sending = tokio::spawn(async move {
            // Reads are of lengths that four does not divide.
            for part in sent.chunks(4_099) {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            client
        });
        assert_eq!(reader.next().await, Ok(Inbound::Text(text)));
        assert!(reader.message.is_none() && reader.received.is_empty());
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn what_is_claimed_takes_no_room_before_it_arrives() {
        let (mut reader, mut client) = pair().await;
        let mut claim = frame(0x81, &vec![b'x'; MAX_READ]);
        claim.truncate(6_000);
        client.write_all(&claim).await.unwrap();
        let held = |reader: &Reader| reader.message.as_ref().map_or((0, 0), |of| (of.bytes.len(), of.bytes.capacity()));
        let arrived = claim.len() - 14;
        while held(&reader).0 < arrived {
            // What is dropped in mid-frame goes on where it was.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), reader.next()).await;
        }
        assert!(held(&reader).1 <= 2 * arrived + FIRST_BYTES, "{:?}", held(&reader));
    }

    /// Whether in one frame or in many.
    #[tokio::test]
    async fn a_message_that_finds_no_room_ends_the_socket_and_a_small_one_needs_none() {
        let part = vec![b'x'; 3_000];
        let parts: Vec<u8> =
            std::iter::once(0x01).chain(std::iter::repeat_n(0x00, 9)).flat_map(|first| frame(first, &part)).collect();
        for sent in [frame(0x81, &[b'x'; 30_000]), parts] {
            let (mut reader, mut client) = pair_with(4 * 16_384).await;
            client.write_all(&frame(0x81, &part)).await.unwrap();
            assert!(matches!(reader.next().await, Ok(Inbound::Text(_))));
            client.write_all(&sent).await.unwrap();
            assert_eq!(reader.next().await, Err(End::Close(Close::Overloaded)));
            assert!(reader.message.is_none(), "and what it had is free");
        }
        let (mut reader, mut client) = pair_with(0).await;
        client.write_all(&frame(0x81, &[b'x'; FREE])).await.unwrap();
        assert!(matches!(reader.next().await, Ok(Inbound::Text(_))));
    }

    /// Frames that broke a rule are skipped, so that the client's own close is found behind them.
    #[tokio::test]
    async fn after_an_error_the_next_frames_are_found() {
        for bad in [
            frame(0x82, b"binary"),
            frame(0x83, b"unknown"),
            frame(0xc1, &[0x88; 300]),
            frame(0x81, &vec![0x88; MAX_READ + 1]),
            frame(0x81, &[&b"\xff"[..], &[0x88; 9_000]].concat()),
            [frame(0x01, b"\xff"), frame(0x00, b"more"), frame(0x80, b"of it")].concat(),
        ] {
            let (mut reader, mut client) = pair().await;
            let sending = tokio::spawn(async move {
                client.write_all(&bad).await.unwrap();
                client.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await.unwrap();
                client
            });
            assert!(matches!(reader.next().await, Err(End::Close(_))));
            // It would wait forever for a client that has not hung up.
            tokio::time::timeout(std::time::Duration::from_secs(60), reader.until_closed()).await.unwrap();
            drop(sending.await.unwrap());
        }
    }
}
