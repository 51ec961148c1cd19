//! Reads the frames of clients.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ErrorCode, MAX_FRAME, Refusal};
use crate::model::json::check;
use crate::model::{ChannelId, ClientId, Kind};

/// A frame that is the broker's to answer, or an event for a handler.
#[derive(Debug)]
pub enum ClientFrame {
    /// The first frame of a socket that brought no token.
    Auth {
        /// Answered with an error when the socket has its token already.
        id: Option<ClientId>,
        /// A JSON Web Token.
        token: String,
    },
    /// A new token for a live socket.
    AuthRefresh {
        /// To be answered with an ack.
        id: Option<ClientId>,
        /// A JSON Web Token.
        token: String,
    },
    /// Join a channel on a socket for many.
    Subscribe {
        /// To be answered with an ack.
        id: Option<ClientId>,
        /// Which.
        channel: ChannelId,
        /// What the client has already; what came after it is sent instead of the channel's state.
        since: Option<Since>,
    },
    /// Leave a channel on a socket for many.
    Unsubscribe {
        /// To be answered with an ack.
        id: Option<ClientId>,
        /// Which.
        channel: ChannelId,
    },
    /// Is anyone there?
    Ping {
        /// To be answered with an ack.
        id: Option<ClientId>,
    },
    /// Anything else: a handler decides.
    Event(EventFrame),
}

impl ClientFrame {
    /// The id under which the client expects an answer.
    pub fn id(&self) -> Option<&ClientId> {
        match self {
            Self::Auth { id, .. }
            | Self::AuthRefresh { id, .. }
            | Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::Ping { id } => id.as_ref(),
            Self::Event(event) => event.id.as_ref(),
        }
    }
}

/// The last message of a channel that a client has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Since {
    /// The numbering, as the broker named it.
    pub epoch: String,
    /// The number within it; 0 is before the first message.
    pub seq: u64,
}

impl std::str::FromStr for Since {
    type Err = Refusal;

    /// Reads `<epoch>:<seq>`, the form it has in a URL.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let parts = text.rsplit_once(':').filter(|(epoch, _)| !epoch.is_empty());
        let since = parts.and_then(|(epoch, seq)| Some(Since { epoch: epoch.to_owned(), seq: seq.parse().ok()? }));
        since.ok_or_else(|| {
            Refusal::new(ErrorCode::BadRequest, "`since` must be `<epoch>:<seq>`, with a seq of 0 or more")
        })
    }
}

/// A frame for a handler.
#[derive(Debug)]
pub struct EventFrame {
    /// The client's idempotency key.
    pub id: Option<ClientId>,
    /// On a socket for many channels, which one.
    pub channel: Option<ChannelId>,
    /// Which handler.
    pub kind: Kind,
    /// The frame as it was sent.
    pub payload: String,
}

/// A frame that was refused before anything looked at its meaning. It carries the client's id if that much could be read.
#[derive(Debug)]
pub struct BadFrame {
    /// To be answered with an error of that id.
    pub id: Option<ClientId>,
    /// Why.
    pub refusal: Refusal,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
}

/// Reads one text message. A frame that is refused leaves the connection as it was.
pub fn parse(text: String) -> Result<ClientFrame, BadFrame> {
    if text.len() > MAX_FRAME {
        let refusal = Refusal::new(ErrorCode::TooLarge, "a frame can have at most 65536 bytes");
        return Err(BadFrame { id: None, refusal });
    }
    let head: Head<'_> = serde_json::from_str(&text)
        .map_err(|_| bad(None, "a frame must be one JSON object without duplicate names"))?;
    let id = match head.id {
        None => None,
        Some(raw) => Some(
            text_of(raw)
                .and_then(|id| id.parse::<ClientId>().ok())
                .ok_or_else(|| bad(None, "`id` must be a string of 1 to 64 characters without control characters"))?,
        ),
    };
    if let Err(unfit) = check(&text) {
        return Err(bad(id, format!("a frame {unfit}")));
    }
    if has_nul(&text) {
        return Err(bad(id, "a frame must not contain the character U+0000"));
    }
    let channel = match head.channel {
        None => None,
        Some(raw) => match text_of(raw) {
            None => return Err(bad(id, "`channel` must be a string")),
            // What is no UUID names no channel, and is answered as a channel that is not there.
            Some(name) => match name.parse::<ChannelId>() {
                Ok(channel) => Some(channel),
                Err(_) => return Err(BadFrame { id, refusal: Refusal::unknown_channel() }),
            },
        },
    };
    let Some(kind) = head.kind.and_then(text_of) else {
        return Err(bad(id, "`type` must be a string"));
    };
    match kind.as_str() {
        "ping" => Ok(ClientFrame::Ping { id }),
        "auth" | "auth.refresh" => match head.token.and_then(text_of) {
            None => Err(bad(id, "`token` must be a string")),
            Some(token) if kind == "auth" => Ok(ClientFrame::Auth { id, token }),
            Some(token) => Ok(ClientFrame::AuthRefresh { id, token }),
        },
        "subscribe" | "unsubscribe" => match channel {
            None => Err(bad(id, "`channel` is missing")),
            Some(channel) if kind == "unsubscribe" => Ok(ClientFrame::Unsubscribe { id, channel }),
            Some(channel) => match head.since.map(since_of) {
                None => Ok(ClientFrame::Subscribe { id, channel, since: None }),
                Some(Some(since)) => Ok(ClientFrame::Subscribe { id, channel, since: Some(since) }),
                Some(None) => {
                    Err(bad(id, "`since` must be {\"epoch\": a string, \"seq\": a whole number of 0 or more}"))
                }
            },
        },
        other => match other.parse::<Kind>() {
            Ok(kind) => Ok(ClientFrame::Event(EventFrame { id, channel, kind, payload: text })),
            Err(_) => {
                Err(BadFrame { id, refusal: Refusal::new(ErrorCode::UnknownType, "there is no handler for this type") })
            }
        },
    }
}

fn bad(id: Option<ClientId>, message: impl Into<Cow<'static, str>>) -> BadFrame {
    BadFrame { id, refusal: Refusal::new(ErrorCode::BadRequest, message) }
}

/// An array would read as the members in their order; it is not what the protocol says.
fn since_of(raw: &RawValue) -> Option<Since> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// Whether a JSON text escapes U+0000 anywhere. (Unescaped it is no JSON.) A backslash that is itself escaped starts no
/// escape, so the run of backslashes before `u0000` must be odd.
fn has_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = json.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        before % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> u16 {
        parse(text.to_owned()).expect_err(text).refusal.code.number()
    }

    #[test]
    fn malformed_frames_are_bad_requests() {
        for text in [
            "",
            "nonsense",
            "[]",
            "5",
            "null",
            "{}",
            r#"{"type":5}"#,
            r#"{"type":null}"#,
            r#"{"type":["a"]}"#,
            r#"{"type":"a","id":5}"#,
            r#"{"type":"a","id":""}"#,
            r#"{"type":"a","type":"b"}"#,
            r#"{"type":"a","channel":7}"#,
            r#"{"type":"auth"}"#,
            r#"{"type":"auth","token":5}"#,
            r#"{"type":"subscribe"}"#,
            r#"{"type":"chat.message","message":"\u0000"}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":41}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":"e:41"}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":{"seq":41}}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":{"epoch":"e"}}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":{"epoch":"e","seq":-1}}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":{"epoch":"e","seq":"1"}}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":{"epoch":"e","seq":1.5}}"#,
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":{"epoch":7,"seq":1}}"#,
            "{\"type\":\"a\u{0}\"}",
            r#"{"type":"a","id":"\u0001"}"#,
        ] {
            assert_eq!(code(text), 107, "{text}");
        }
        assert_eq!(code(&format!(r#"{{"type":"a","id":"{}"}}"#, "x".repeat(65))), 107);
    }

    #[test]
    fn a_refused_frame_keeps_its_id() {
        let refused = parse(r#"{"id":"c1","type":7}"#.to_owned()).expect_err("the type is no string");
        assert_eq!(refused.id.expect("it was readable").as_str(), "c1");
    }

    #[test]
    fn size_is_counted_in_bytes_of_the_whole_frame() {
        let room = MAX_FRAME - r#"{"type":"a","x":""}"#.len();
        assert!(parse(format!(r#"{{"type":"a","x":"{}"}}"#, "x".repeat(room))).is_ok());
        assert_eq!(code(&format!(r#"{{"type":"a","x":"{}"}}"#, "x".repeat(room + 1))), 204);
    }

    #[test]
    fn an_escaped_backslash_before_u0000_is_text() {
        assert!(parse(r#"{"type":"a","x":"\\u0000"}"#.to_owned()).is_ok());
        assert_eq!(code(r#"{"type":"a","x":"\\\u0000"}"#), 107);
    }

    #[test]
    fn a_channel_that_is_no_uuid_reads_as_one_that_is_not_there() {
        assert_eq!(code(r#"{"type":"subscribe","channel":"lobby"}"#), 102);
    }

    #[test]
    fn a_position_reads_alike_in_a_frame_and_in_a_url() {
        let position = Since { epoch: "e:1".to_owned(), seq: 41 };
        let text =
            r#"{"type":"subscribe","channel":"01a208fd-3ea8-77ed-a80f-01788504fb62","since":{"epoch":"e:1","seq":41}}"#;
        let Ok(ClientFrame::Subscribe { since, .. }) = parse(text.to_owned()) else { panic!("not a subscription") };
        assert_eq!(since.as_ref(), Some(&position));
        assert_eq!("e:1:41".parse().ok(), Some(position));
        for malformed in ["", "41", ":41", "e:", "e:-1", "e:x", "e:1.5", "e: 1"] {
            assert!(malformed.parse::<Since>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn other_types_are_events_with_the_frame_untouched() {
        let text = r#"{"type":"chat.message", "message":"hi","token":5}"#;
        let ClientFrame::Event(event) = parse(text.to_owned()).expect("well-formed") else {
            panic!("not an event");
        };
        assert_eq!((event.kind.as_str(), event.payload.as_str()), ("chat.message", text));
    }
}
