//! The header of a frame from a client (RFC 6455, section 5.2).
//!
//! The WebSocket library could read frames too. But it makes room for a payload as soon as a header claims one, takes
//! lengths in more bytes than they need, and shows neither; both must be seen before the first byte of a payload.
//!
//! A header is read whatever is wrong with it: a socket that closes goes on reading, and has to find the next frame.

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
    /// Reserved, and so an error.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) opcode: Opcode,
    /// Whether the message ends with this frame.
    pub(super) is_final: bool,
    pub(super) mask: [u8; 4],
    /// Bytes of the payload, as claimed.
    pub(super) length: u64,
    /// Whether the header breaks a rule that holds for every frame: a reserved bit or opcode, no mask, a length in more
    /// bytes than it needs, a control frame that is fragmented or too long.
    pub(super) is_flawed: bool,
}

/// Largest payload of a control frame, in bytes (section 5.5).
const MAX_CONTROL: u64 = 125;

impl FrameHeader {
    /// Parses the header at the start of `bytes`; returns its length too. `None`: it is not complete yet.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let ([first, second], rest) = bytes.split_first_chunk()?;
        let (length, shortest, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), 126, rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), 65_536, rest)
            }
            length => (u64::from(length), 0, rest),
        };
        let is_masked = second & 0x80 != 0;
        let (mask, rest) = if is_masked {
            let (mask, rest) = rest.split_first_chunk()?;
            (*mask, rest)
        } else {
            ([0; 4], rest)
        };
        let opcode = match first & 0x0f {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => Opcode::Unknown,
        };
        let is_final = first & 0x80 != 0;
        let is_control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
        let is_flawed = first & 0x70 != 0
            || opcode == Opcode::Unknown
            || !is_masked
            || length < shortest
            // The highest bit of a length is reserved as well.
            || length > i64::MAX.unsigned_abs()
            || (is_control && (!is_final || length > MAX_CONTROL));
        Some((Self { opcode, is_final, mask, length, is_flawed }, bytes.len() - rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// A masked header with these bytes of length.
    fn header(first: u8, length: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, length[0] | 0x80];
        bytes.extend(&length[1..]);
        bytes.extend(MASK);
        bytes
    }

    fn parsed(bytes: &[u8]) -> FrameHeader {
        let (header, used) = FrameHeader::parse(bytes).unwrap();
        assert_eq!(used, bytes.len());
        for cut in 0..bytes.len() {
            assert_eq!(FrameHeader::parse(&bytes[..cut]), None, "{cut} bytes of {bytes:?}");
        }
        header
    }

    #[test]
    fn each_length_has_one_form() {
        for (length, form, fits) in [
            (0, vec![0], true),
            (125, vec![125], true),
            (126, vec![126, 0, 126], true),
            (65_535, vec![126, 0xff, 0xff], true),
            (65_536, vec![127, 0, 0, 0, 0, 0, 1, 0, 0], true),
            (125, vec![126, 0, 125], false),
            (0, vec![126, 0, 0], false),
            (125, vec![127, 0, 0, 0, 0, 0, 0, 0, 125], false),
            (65_535, vec![127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], false),
            (1 << 63, vec![127, 0x80, 0, 0, 0, 0, 0, 0, 0], false),
        ] {
            let header = parsed(&header(0x81, &form));
            assert_eq!((header.length, header.is_flawed), (length, !fits), "{form:?}");
            assert_eq!((header.mask, header.opcode, header.is_final), (MASK, Opcode::Text, true));
        }
    }

    #[test]
    fn what_no_frame_may_be_is_a_flaw() {
        for first in [0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a] {
            assert!(!parsed(&header(first, &[125])).is_flawed, "{first:x}");
        }
        for first in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f, 0x08, 0x09, 0x0a] {
            assert!(parsed(&header(first, &[0])).is_flawed, "{first:x}");
        }
        for first in [0x88, 0x89, 0x8a] {
            assert!(parsed(&header(first, &[126, 0, 126])).is_flawed, "{first:x}");
        }
        assert!(parsed(&[0x81, 0]).is_flawed, "no mask");
    }
}
