//! A WebSocket message as the bytes that go on the wire.

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload};
use serde::Serialize;

use super::Close;

/// Header and payload of one whole message. A server's frames are not masked, so the same bytes serve every recipient;
/// a clone shares them.
#[derive(Debug, Clone)]
pub struct WireFrame {
    bytes: Bytes,
    header: u8,
}

impl WireFrame {
    /// A text message with this value as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        let text = serde_json::to_vec(value).expect("frames are made of strings, numbers and valid JSON");
        Self::text(&text)
    }

    /// A text message. The text must be UTF-8.
    pub fn text(text: &[u8]) -> Self {
        Self::build(Frame::text(Payload::Borrowed(text)))
    }

    /// A binary message.
    #[cfg(feature = "conformance")]
    pub fn binary(bytes: &[u8]) -> Self {
        Self::build(Frame::binary(Payload::Borrowed(bytes)))
    }

    /// A close with its code and reason.
    pub fn close(close: Close) -> Self {
        Self::build(Frame::close(close.code(), close.reason().as_bytes()))
    }

    /// A ping without payload.
    pub fn ping() -> Self {
        Self::build(Frame::new(true, OpCode::Ping, None, Payload::Borrowed(&[])))
    }

    /// The answer to a ping, with its payload of at most 125 bytes.
    pub fn pong(payload: &[u8]) -> Self {
        Self::build(Frame::pong(Payload::Borrowed(payload)))
    }

    /// Everything that goes on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message without its header.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(usize::from(self.header)..)
    }

    /// The size on the wire in bytes; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a frame has a header, it is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn build(mut frame: Frame<'_>) -> Self {
        let mut bytes = Vec::with_capacity(frame.payload.len() + 16);
        let length = frame.write(&mut bytes).len();
        bytes.truncate(length);
        let header = u8::try_from(length - frame.payload.len()).expect("a header has at most 14 bytes");
        Self { bytes: bytes.into(), header }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_header_and_its_payload() {
        for size in [0, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(size);
            let frame = WireFrame::text(text.as_bytes());
            assert_eq!(frame.payload(), text.as_bytes());
            assert_eq!(frame.as_bytes()[0], 0x81, "final text frame");
            assert_eq!(
                frame.len() - size,
                if size < 126 {
                    2
                } else if size < 65_536 {
                    4
                } else {
                    10
                }
            );
        }
    }

    #[test]
    fn a_close_carries_code_and_reason() {
        let frame = WireFrame::close(Close::Unauthenticated);
        assert_eq!(&frame.payload()[..2], 4000_u16.to_be_bytes());
        assert_eq!(&frame.payload()[2..], b"authentication failed");
    }
}
