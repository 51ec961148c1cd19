//! A delivery on its way between nodes: one line of JSON that says what it is, then the frame as it stands.

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
    Revoke {
        user: UserId,
    },
}

/// What another node sent.
pub(super) enum Opened {
    /// A frame for the sessions here. The copy for the socket that caused it stays on that socket's node.
    Frame(Delivery),
    /// A member is no longer in the channel.
    Revoke(UserId),
}

pub(super) fn frame(delivery: &Delivery) -> Bytes {
    let head = Head::Frame {
        seq: delivery.seq,
        durable: delivery.class == Class::Durable,
        audience: delivery.audience.clone(),
    };
    write(&head, &delivery.frame.payload())
}

pub(super) fn revoke(user: &UserId) -> Bytes {
    write(&Head::Revoke { user: user.clone() }, b"")
}

/// `None`: not written by [`frame`] or [`revoke`].
pub(super) fn open(bytes: &[u8]) -> Option<Opened> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let frame = &bytes[end + 1..];
    match serde_json::from_slice(&bytes[..end]).ok()? {
        Head::Revoke { user } => Some(Opened::Revoke(user)),
        Head::Frame { seq, durable, audience } => {
            std::str::from_utf8(frame).ok()?;
            let class = if durable { Class::Durable } else { Class::Ephemeral };
            Some(Opened::Frame(Delivery { seq, class, audience, frame: WireFrame::text(frame), echo: None }))
        }
    }
}

fn write(head: &Head, frame: &[u8]) -> Bytes {
    let mut bytes = serde_json::to_vec(head).expect("a head is made of strings and numbers");
    bytes.push(b'\n');
    bytes.extend_from_slice(frame);
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
        let Some(Opened::Frame(got)) = open(&frame(&sent)) else { panic!("no frame") };
        assert_eq!((got.seq, got.class, &got.audience), (sent.seq, sent.class, &sent.audience));
        assert_eq!(got.frame.as_bytes(), sent.frame.as_bytes());
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
