//! Reads the effects a handler returned, with the same distrust as a client's frame.

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use switchboard_model::catalogue::Import;
use switchboard_model::json::check;
use switchboard_model::{
    Amendment, Audience, Draft, Effect, Kind, KvWrite, MessageId, ReadUpTo, Signal, Timestamp, UserId,
};

use super::bindings::switchboard::plugin::types::{
    Audience as GuestAudience, Effect as GuestEffect, KvWrite as GuestWrite,
};
use crate::error::CallError;
use crate::limits::Limits;

/// The sender and time of the event that produced the effects.
pub(super) struct SentBy {
    pub(super) user: UserId,
    pub(super) at: Timestamp,
}

/// Converts the effects: all of them, or an error.
pub(super) fn read(asked: Vec<GuestEffect>, sent: &SentBy, limits: &Limits) -> Result<Vec<Effect>, CallError> {
    if asked.len() > limits.effects {
        return Err(failed(format!("it returned {} effects; the maximum is {}", asked.len(), limits.effects)));
    }
    let bytes = bytes(&asked);
    if bytes > limits.effect_bytes {
        return Err(failed(format!("its effects have {bytes} bytes; the maximum is {}", limits.effect_bytes)));
    }
    asked.into_iter().map(|effect| one(effect, sent)).collect()
}

/// Total bytes of text in the effects.
pub(super) fn bytes(asked: &[GuestEffect]) -> usize {
    asked.iter().map(size).sum()
}

/// Checks grants for effects that write. Writing keys needs the same grant as reading them.
pub(super) fn check_granted(asked: &[GuestEffect], grants: &BTreeSet<Import>) -> Result<(), CallError> {
    let writes = asked.iter().any(|effect| matches!(effect, GuestEffect::KvPut(_)));
    if writes && !grants.contains(&Import::Kv) { Err(failed("kv is not granted".to_owned())) } else { Ok(()) }
}

fn one(effect: GuestEffect, sent: &SentBy) -> Result<Effect, CallError> {
    Ok(match effect {
        GuestEffect::Store(draft) => Effect::Store(Draft {
            kind: kind(&draft.kind)?,
            content: json(draft.content, "a draft's content")?,
            reply_to: draft.reply_to.map(|id| message(&id)).transpose()?,
            attachments: array(&draft.attachments)?,
        }),
        GuestEffect::Amend(amendment) => Effect::Amend(Amendment {
            message: message(&amendment.message_id)?,
            content: amendment.content.map(|content| json(content, "an amendment's content")).transpose()?,
        }),
        GuestEffect::KvPut(asked) => Effect::KvPut(write(asked, sent)?),
        GuestEffect::MarkRead(mark) => {
            Effect::MarkRead(ReadUpTo { kind: kind(&mark.kind)?, message: message(&mark.message_id)? })
        }
        GuestEffect::Broadcast(signal) => Effect::Broadcast(Signal {
            audience: match signal.audience {
                GuestAudience::Channel => Audience::Channel,
                GuestAudience::ChannelExceptSender => Audience::Except(sent.user.clone()),
                GuestAudience::Sender => Audience::Users(vec![sent.user.clone()]),
                GuestAudience::Users(ids) => Audience::Users(ids.iter().filter_map(|id| id.parse().ok()).collect()),
            },
            kind: kind(&signal.kind)?,
            payload: object(signal.payload, "a signal's payload")?,
        }),
    })
}

fn size(effect: &GuestEffect) -> usize {
    match effect {
        GuestEffect::Store(draft) => {
            draft.kind.len() + draft.content.len() + draft.attachments.iter().map(String::len).sum::<usize>()
        }
        GuestEffect::Amend(amendment) => amendment.message_id.len() + amendment.content.as_ref().map_or(0, String::len),
        GuestEffect::KvPut(write) => write.key.len() + write.value.as_ref().map_or(0, Vec::len),
        GuestEffect::MarkRead(mark) => mark.kind.len() + mark.message_id.len(),
        GuestEffect::Broadcast(signal) => {
            let named = match &signal.audience {
                GuestAudience::Users(ids) => ids.iter().map(String::len).sum(),
                _ => 0,
            };
            signal.kind.len() + signal.payload.len() + named
        }
    }
}

fn write(asked: GuestWrite, sent: &SentBy) -> Result<KvWrite, CallError> {
    let GuestWrite { key, value, ttl_ms, expected } = asked;
    if !KvWrite::is_key(&key) {
        return Err(failed(format!("a key must have 1 to {} bytes, without U+0000", KvWrite::MAX_KEY)));
    }
    let bytes = value.as_ref().map_or(0, Vec::len);
    if bytes > KvWrite::MAX_VALUE {
        return Err(failed(format!("a value has {bytes} bytes; the maximum is {}", KvWrite::MAX_VALUE)));
    }
    // An expiry too late for a timestamp means no expiry.
    let ends = |ttl: u64| sent.at.0.checked_add(i64::try_from(ttl).ok()?).map(Timestamp);
    Ok(KvWrite { key, value, expires_at: ttl_ms.and_then(ends), expected })
}

fn kind(text: &str) -> Result<Kind, CallError> {
    text.parse().map_err(|error| failed(format!("a kind {error}")))
}

/// Parses a message id. It usually comes from the client by way of the handler, so a malformed one is the sender's
/// mistake.
fn message(text: &str) -> Result<MessageId, CallError> {
    text.parse().map_err(|_| CallError::UnknownMessage)
}

fn json(text: String, what: &str) -> Result<Box<RawValue>, CallError> {
    let value = RawValue::from_string(text).map_err(|error| failed(format!("{what} must be JSON: {error}")))?;
    check(value.get()).map_err(|unfit| failed(format!("{what} {unfit}")))?;
    Ok(value)
}

fn object(text: String, what: &str) -> Result<Box<RawValue>, CallError> {
    let value = json(text, what)?;
    if value.get().starts_with('{') { Ok(value) } else { Err(failed(format!("{what} must be a JSON object"))) }
}

fn array(items: &[String]) -> Result<Box<RawValue>, CallError> {
    for item in items {
        object(item.clone(), "an attachment")?;
    }
    json(format!("[{}]", items.join(",")), "the attachments")
}

fn failed(reason: String) -> CallError {
    CallError::Failed(reason)
}

#[cfg(test)]
mod tests {
    use super::super::bindings::switchboard::plugin::types::{
        Amendment as GuestAmendment, Draft as GuestDraft, ReadMark as GuestMark, Signal as GuestSignal,
    };
    use super::*;

    fn sent() -> SentBy {
        SentBy { user: "7".parse().unwrap(), at: Timestamp(0) }
    }

    fn draft(content: &str, attachments: &[&str]) -> GuestEffect {
        GuestEffect::Store(GuestDraft {
            kind: "chat.message".to_owned(),
            content: content.to_owned(),
            reply_to: None,
            attachments: attachments.iter().map(|&text| text.to_owned()).collect(),
        })
    }

    fn signal(audience: GuestAudience, payload: &str) -> GuestEffect {
        GuestEffect::Broadcast(GuestSignal { audience, kind: "typing".to_owned(), payload: payload.to_owned() })
    }

    #[test]
    fn what_is_no_json_of_its_form_is_the_handlers_failure() {
        let limits = Limits::default();
        for bad in [
            draft("hi", &[]),
            draft("\"hi\" 5", &[]),
            draft("5", &["7"]),
            draft("5", &["{}],[{}"]),
            draft("5", &["{},{}"]),
            signal(GuestAudience::Channel, "[]"),
            signal(GuestAudience::Channel, ""),
            // JSON that some clients cannot read.
            draft(&("[".repeat(65) + &"]".repeat(65)), &[]),
            draft("1e400", &[]),
            draft("\"\\ud800\"", &[]),
            draft("5", &["{\"a\":1,\"a\":2}"]),
            signal(GuestAudience::Channel, "{\"a\":123456789012345678901}"),
        ] {
            assert!(matches!(read(vec![bad.clone()], &sent(), &limits), Err(CallError::Failed(_))), "{bad:?}");
        }
        assert_eq!(read(vec![draft("5", &["{}", "{\"a\":1}"])], &sent(), &limits).unwrap().len(), 1);
    }

    #[test]
    fn too_many_effects_or_too_much_text_are_refused() {
        let limits = Limits { effects: 2, effect_bytes: 40, ..Limits::default() };
        assert!(read(vec![draft("5", &[]); 2], &sent(), &limits).is_ok());
        assert!(read(vec![draft("5", &[]); 3], &sent(), &limits).is_err());
        assert!(read(vec![draft(&format!("\"{}\"", "x".repeat(40)), &[])], &sent(), &limits).is_err());
    }

    fn put(key: &str, value: usize, ttl_ms: Option<u64>) -> GuestEffect {
        GuestEffect::KvPut(GuestWrite { key: key.to_owned(), value: Some(vec![b'x'; value]), ttl_ms, expected: None })
    }

    #[test]
    fn a_write_of_a_key_has_its_bounds() {
        let limits = Limits::default();
        let ends = |ttl_ms| match read(vec![put("k", 1, ttl_ms)], &sent(), &limits).unwrap().remove(0) {
            Effect::KvPut(write) => write.expires_at,
            other => panic!("{other:?}"),
        };
        assert_eq!((ends(None), ends(Some(5)), ends(Some(u64::MAX))), (None, Some(Timestamp(5)), None));
        for good in [put(&"k".repeat(KvWrite::MAX_KEY), 0, None), put("k", KvWrite::MAX_VALUE, None)] {
            assert!(read(vec![good], &sent(), &limits).is_ok());
        }
        for bad in [
            put("", 0, None),
            put(&"k".repeat(KvWrite::MAX_KEY + 1), 0, None),
            put("a\0", 0, None),
            put("k", KvWrite::MAX_VALUE + 1, None),
        ] {
            assert!(matches!(read(vec![bad], &sent(), &limits), Err(CallError::Failed(_))));
        }
        let tight = Limits { effect_bytes: 10, ..Limits::default() };
        assert!(read(vec![put("key", 7, None)], &sent(), &tight).is_ok());
        assert!(read(vec![put("key", 8, None)], &sent(), &tight).is_err(), "its bytes count");
    }

    #[test]
    fn a_write_of_a_key_needs_the_grant_of_keys() {
        let writes = [draft("5", &[]), put("k", 1, None)];
        let others = BTreeSet::from([Import::Log, Import::History]);
        assert!(matches!(check_granted(&writes, &others), Err(CallError::Failed(_))));
        assert!(check_granted(&writes, &BTreeSet::from([Import::Kv])).is_ok());
        assert!(check_granted(&writes[..1], &BTreeSet::new()).is_ok());
    }

    #[test]
    fn an_amendment_names_a_message_and_holds_json() {
        let id = uuid::Uuid::nil().to_string();
        let amend = |id: &str, content: Option<&str>| {
            let (message_id, content) = (id.to_owned(), content.map(str::to_owned));
            let asked = GuestEffect::Amend(GuestAmendment { message_id, content });
            read(vec![asked], &sent(), &Limits::default())
        };
        assert!(amend(&id, Some("\"hi\"")).is_ok() && amend(&id, None).is_ok());
        assert!(matches!(amend(&id, Some("hi")), Err(CallError::Failed(_))));
        assert_eq!(amend("7", None).unwrap_err(), CallError::UnknownMessage);
    }

    #[test]
    fn an_audience_is_told_in_the_brokers_own_ids() {
        let of = |audience| match read(vec![signal(audience, "{}")], &sent(), &Limits::default()).unwrap().remove(0) {
            Effect::Broadcast(signal) => signal.audience,
            other => panic!("{other:?}"),
        };
        let me = "7".parse().unwrap();
        assert_eq!(of(GuestAudience::ChannelExceptSender), Audience::Except("7".parse().unwrap()));
        assert_eq!(of(GuestAudience::Sender), Audience::Users(vec![me]));
        assert_eq!(of(GuestAudience::Users(vec!["\u{0}".to_owned()])), Audience::Users(vec![]));
    }

    #[test]
    fn an_id_that_is_none_names_no_message() {
        let mark = GuestMark { kind: "message.read".to_owned(), message_id: "5".to_owned() };
        let read = read(vec![GuestEffect::MarkRead(mark)], &sent(), &Limits::default());
        assert_eq!(read.unwrap_err(), CallError::UnknownMessage);
    }
}
