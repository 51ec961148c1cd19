//! The reader of WebSocket frames, fed byte by byte or in pieces, as a client may.
//!
//! It asserts that the reader sees what a second decoder, written for this test from RFC 6455, sees of the same bytes; that
//! it holds no more than its bounds at any time, whatever lengths are claimed; and that a socket which closes holds nothing.
//!
//! The first byte says how frames are made: as they come, or from short descriptions, so that long and correct frames are
//! tried as well. The second byte is the size of the pieces, the third one how much comes with the handshake.

#![no_main]

use std::future::poll_fn;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::Poll;

use libfuzzer_sys::fuzz_target;
use switchboard::fuzzing::frames::{Ended, Held, Seen, Socket};
use switchboard::protocol::{Close, MAX_READ};
use switchboard_fuzz::Input;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{unconstrained, yield_now};

/// Bytes of one read, of a message that is not counted, and by which a message may be ahead of what has arrived.
const READ: usize = 4_096;
thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
}

/// A budget of which one address may take what four reads have.
const SMALL: usize = 16 * READ;
/// More than any input needs.
const LARGE: usize = 1 << 30;
/// Most that is sent before the reader has its turn: what fits into any socket's buffer.
const PIECE: usize = 16_384;
/// Most pieces, or so.
const PIECES: usize = 64;
/// The largest header of a frame.
const HEADER: usize = 14;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (mode, piece, early) = (input.byte(), usize::from(input.byte()), usize::from(input.byte()));
    let budget = if mode & 2 == 0 { LARGE } else { SMALL };
    let bytes = if mode & 1 == 0 { input.rest().to_vec() } else { made(&mut input) };
    // Waiting for a socket takes longer than anything else here.
    let piece = if piece == 0 { PIECE } else { (piece * piece).max(bytes.len() / PIECES) };
    let early = early.min(bytes.len());

    let (seen, ended) = RUNTIME.with(|runtime| runtime.block_on(unconstrained(read(&bytes, piece, early, budget))));
    let (expected, end) = expected(&bytes);
    if ended == Ended::Close(Close::Overloaded) {
        assert!(budget == SMALL && expected.starts_with(&seen), "refused for lack of room, or something else was read");
    } else {
        assert_eq!(ended, end);
        assert!(seen == expected, "{seen:?} was read of {expected:?}");
    }
});

/// Correct frames, and some that are not: for each a byte for its kind, one for its length, one for its mask and one for how
/// often the payload is repeated.
fn made(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.is_empty() && bytes.len() < 4 * MAX_READ {
        let (first, length, mask, times) = (input.byte(), input.byte(), input.byte(), input.byte());
        let times = 1 << (times % 12);
        let payload = input.take(usize::from(length & 0x7f)).repeat(times);
        let mask = [mask, mask.rotate_left(3), !mask, mask ^ 0x5a];
        bytes.push(first);
        match payload.len() {
            short @ 0..=125 => bytes.push(0x80 | u8::try_from(short).expect("it is short")),
            medium @ 126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(medium).expect("it is not long").to_be_bytes());
            }
            long => {
                bytes.push(0x80 | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        // A frame that is cut off: what was claimed does not come.
        if length & 0x80 != 0 {
            bytes.truncate(bytes.len() - payload.len() / 2);
        }
    }
    bytes
}

/// What the broker's reader sees of these bytes.
async fn read(bytes: &[u8], piece: usize, early: usize, budget: usize) -> (Vec<Seen>, Ended) {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    server.set_nonblocking(true).expect("a socket that does not block");
    // The reader asks a socket to read and to wait, which one kind does like the other. This kind needs no port.
    let server = TcpStream::from_std(OwnedFd::from(server).into()).expect("a socket");
    let (early, late) = bytes.split_at(early);
    let mut socket = Socket::new(server, early.to_vec(), budget);
    let mut seen = Vec::new();
    let mut ended = None;
    let mut sent = 0;
    while ended.is_none() && sent < late.len() {
        let next = &late[sent..late.len().min(sent + piece.min(PIECE))];
        client.write_all(next).expect("the buffer has room");
        sent += next.len();
        let mut waits = 0;
        // The first look may come before the runtime has noticed the bytes.
        while waits < 2 && ended.is_none() {
            yield_now().await;
            let now = {
                let mut next = pin!(socket.next());
                poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await
            };
            match now {
                Poll::Pending => waits += 1,
                Poll::Ready(Ok(message)) => seen.push(message),
                Poll::Ready(Err(end)) => ended = Some(end),
            }
            bounded(&socket.held(), early.len(), budget);
        }
    }
    client.set_nonblocking(true).expect("a socket that does not block");
    let mut client = tokio::net::UnixStream::from_std(client).expect("a socket");
    if ended.is_none() {
        client.shutdown().await.expect("an open socket");
    }
    while ended.is_none() {
        match socket.next().await {
            Ok(message) => seen.push(message),
            Err(end) => ended = Some(end),
        }
        bounded(&socket.held(), early.len(), budget);
    }
    let rest = async {
        // The reader may have found the client's close, and is not there for the rest.
        let _ = client.write_all(&late[sent..]).await;
        drop(client);
    };
    let closing = async {
        socket.until_closed().await;
        let held = socket.held();
        assert!(held.capacity == 0 && held.taken == 0, "a closed socket holds {held:?}");
        drop(socket);
    };
    tokio::join!(rest, closing);
    (seen, ended.expect("it has ended"))
}

fn bounded(held: &Held, early: usize, budget: usize) {
    assert!(held.received <= (READ + HEADER).max(early), "{held:?}");
    assert!(held.control <= 256, "{held:?}");
    assert!(held.message <= MAX_READ && held.capacity <= MAX_READ.max(READ), "{held:?}");
    assert!(held.capacity <= 2 * held.message + READ, "a claim was believed: {held:?}");
    assert!(held.capacity <= READ.max(held.taken), "what is held is not counted: {held:?}");
    assert!(held.taken <= held.capacity && held.taken <= budget / 4, "{held:?}");
}

/// What RFC 6455 and docs/protocol.md say about these bytes: the messages, and why there are no more.
fn expected(bytes: &[u8]) -> (Vec<Seen>, Ended) {
    let mut seen = Vec::new();
    let mut message: Option<Vec<u8>> = None;
    let mut rest = bytes;
    let end = loop {
        let Some((first, payload, length, mask, is_minimal)) = header(rest) else { break Ended::Gone };
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        let is_control = opcode >= 8;
        let is_known = matches!(opcode, 0..=2 | 8..=10);
        let is_flawed = first & 0x70 != 0 || !is_known || !is_minimal || (is_control && (!is_final || length > 125));
        let Some(mask) = mask.filter(|_| !is_flawed) else {
            // A close is answered, however wrong it is: the client sends nothing more.
            break if opcode == 8 { Ended::Answer(Close::ProtocolError) } else { Ended::Close(Close::ProtocolError) };
        };
        let has = usize::try_from(length).unwrap_or(usize::MAX).min(payload.len());
        let is_whole = has as u64 == length;
        let content = || payload[..has].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        rest = &payload[has..];
        if is_control {
            if !is_whole {
                break Ended::Gone;
            }
            match opcode {
                8 => break Ended::Answer(answer(&content().collect::<Vec<u8>>())),
                9 => seen.push(Seen::Ping(content().collect())),
                _ => seen.push(Seen::Pong),
            }
            continue;
        }
        let whole = match (opcode, &mut message) {
            (0, None) | (1 | 2, Some(_)) => break Ended::Close(Close::ProtocolError),
            (2, None) => break Ended::Close(Close::Unsupported),
            (_, message) => message.get_or_insert_default(),
        };
        if whole.len() as u64 + length > MAX_READ as u64 {
            break Ended::Close(Close::TooBig);
        }
        whole.extend(content());
        let is_complete = is_final && is_whole;
        match std::str::from_utf8(whole) {
            Ok(text) if is_complete => {
                seen.push(Seen::Text(text.to_owned()));
                message = None;
            }
            // What is not complete may end within a character.
            Err(error) if is_complete || error.error_len().is_some() => break Ended::Close(Close::InvalidText),
            _ if !is_whole => break Ended::Gone,
            _ => {}
        }
    };
    (seen, end)
}

/// First byte, what follows, length, mask, and whether the length has its shortest form.
#[expect(clippy::type_complete, reason = "it is taken apart where it is used")]
fn header(bytes: &[u8]) -> Option<(u8, &[u8], u64, Option<[u8; 4]>, bool)> {
    let mut input = Input::new(bytes);
    let bytes_of = |input: &mut Input<'_>, count: usize| -> Option<u64> {
        let taken = input.take(count);
        (taken.len() == count).then(|| taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let first = u8::try_from(bytes_of(&mut input, 1)?).ok()?;
    let second = bytes_of(&mut input, 1)?;
    let (length, is_minimal) = match second & 0x7f {
        126 => bytes_of(&mut input, 2).map(|length| (length, length > 125))?,
        127 => bytes_of(&mut input, 8).map(|length| (length, length > 0xffff && length >> 63 == 0))?,
        short => (short, true),
    };
    let mask =
        if second & 0x80 == 0 { None } else { Some(u32::try_from(bytes_of(&mut input, 4)?).ok()?.to_be_bytes()) };
    Some((first, input.rest(), length, mask, is_minimal))
}

/// The answer to a close (section 7.4).
fn answer(payload: &[u8]) -> Close {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Close::Normal } else { Close::ProtocolError };
    };
    match u16::from_be_bytes(*code) {
        1000..=1003 | 1007..=1014 | 3000..=4999 if std::str::from_utf8(reason).is_ok() => Close::Normal,
        1000..=1003 | 1007..=1014 | 3000..=4999 => Close::InvalidText,
        _ => Close::ProtocolError,
    }
}
