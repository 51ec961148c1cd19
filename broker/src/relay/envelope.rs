//! The encoding of deliveries between nodes: one line of JSON that describes them, followed by the frames verbatim.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::hub::{Class, Delivery};
use crate::model::{Audience, UserId};
use crate::protocol::WireFrame;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Frame {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        durable: bool,
        audience: Audience,
    },
    /// Several consecutive frames. A node of an earlier version does not understand this and reads the durable ones
    /// from the store.
    Frames(Vec<Part>),
    Revoke {
        user: UserId,
    },
}

#[derive(Serialize, Deserialize)]
struct Part {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    durable: bool,
    audience: Audience,
    bytes: usize,
}

/// A decoded bus message.
pub(super) enum Opened {
    /// Frames for the sessions here. The echo stays on the node of the socket that caused it.
    Frames(Vec<Delivery>),
    /// The user is no longer a member of the channel.
    Revoke(UserId),
}

pub(super) fn frames(deliveries: &[Delivery]) -> Bytes {
    if let [delivery] = deliveries {
        return frame(delivery);
    }
    let part = |delivery: &Delivery| Part {
        seq: delivery.seq,
        durable: delivery.class == Class::Durable,
        audience: delivery.audience.clone(),
        bytes: delivery.frame.payload().len(),
    };
    let head = Head::Frames(deliveries.iter().map(part).collect());
    write(&head, deliveries.iter().map(|delivery| delivery.frame.payload()))
}

fn frame(delivery: &Delivery) -> Bytes {
    let head = Head::Frame {
        seq: delivery.seq,
        durable: delivery.class == Class::Durable,
        audience: delivery.audience.clone(),
    };
    write(&head, std::iter::once(delivery.frame.payload()))
}

pub(super) fn revoke(user: &UserId) -> Bytes {
    write(&Head::Revoke { user: user.clone() }, std::iter::empty::<&[u8]>())
}

/// `None` if the bytes were not written by [`frames`] or [`revoke`].
pub(super) fn open(bytes: &[u8]) -> Option<Opened> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let mut rest = &bytes[end + 1..];
    match serde_json::from_slice(&bytes[..end]).ok()? {
        Head::Revoke { user } => Some(Opened::Revoke(user)),
        Head::Frame { seq, durable, audience } => {
            Some(Opened::Frames(vec![Part { seq, durable, audience, bytes: rest.len() }.with(rest)?]))
        }
        Head::Frames(parts) => {
            let mut deliveries = Vec::with_capacity(parts.len());
            for part in parts {
                let (frame, others) = rest.split_at_checked(part.bytes)?;
                deliveries.push(part.with(frame)?);
                rest = others;
            }
            rest.is_empty().then_some(Opened::Frames(deliveries))
        }
    }
}

impl Part {
    fn with(self, frame: &[u8]) -> Option<Delivery> {
        std::str::from_utf8(frame).ok()?;
        let class = if self.durable { Class::Durable } else { Class::Ephemeral };
        let Self { seq, audience, .. } = self;
        Some(Delivery { seq, class, audience, frame: WireFrame::text(frame), echo: None })
    }
}

fn write<F: AsRef<[u8]>>(head: &Head, frames: impl Iterator<Item = F>) -> Bytes {
    let mut bytes = serde_json::to_vec(head).expect("a head is made of strings and numbers");
    bytes.push(b'\n');
    frames.for_each(|frame| bytes.extend_from_slice(frame.as_ref()));
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_opens_as_it_was() {
        let sent = Delivery {
            seq: Some(7),
            class: Class::Durable,
            audience: Audience::Except("a\nb\"".replace('\n', " ").parse().unwrap()),
            frame: WireFrame::text("{\"x\":\"line\\nbreak ü\"}".as_bytes()),
            echo: None,
        };
        let typing = Delivery {
            seq: None,
            class: Class::Ephemeral,
            frame: WireFrame::text("{\"é\":1}".as_bytes()),
            ..sent.clone()
        };
        for sent in [vec![sent.clone()], vec![sent.clone(), typing.clone(), sent.clone()]] {
            let Some(Opened::Frames(got)) = open(&frames(&sent)) else { panic!("no frames") };
            assert_eq!(got.len(), sent.len());
            for (got, sent) in got.iter().zip(&sent) {
                assert_eq!((got.seq, got.class, &got.audience), (sent.seq, sent.class, &sent.audience));
                assert_eq!(got.frame.as_bytes(), sent.frame.as_bytes());
            }
        }
        let both = frames(&[sent, typing]);
        for length in 0..both.len() {
            assert!(open(&both[..length]).is_none(), "torn at {length}");
        }
        let user: UserId = "7".parse().unwrap();
        assert!(matches!(open(&revoke(&user)), Some(Opened::Revoke(got)) if got == user));
    }

    #[test]
    fn what_others_write_is_not_taken() {
        for foreign in [&b""[..], b"\n", b"hello", b"{}\nhello", b"{\"frame\":{}}\n{}", b"\xff\xfe\n"] {
            assert!(open(foreign).is_none(), "{foreign:?}");
        }
    }
}
