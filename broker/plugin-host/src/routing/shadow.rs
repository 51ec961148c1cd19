//! Calls a shadow with events that were already handled, and compares its effects with the stable generation's.
//!
//! Nobody waits for a shadow and its effects are never applied. Each shadow runs one call at a time from its own
//! bounded queue, so a slow one delays no other. Events beyond that bound are dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard_metrics::{PLUGIN_SHADOW, Value as Label};
use switchboard_model::{Amendment, Audience, ChannelKey, Draft, Effect, Event, Message};

use crate::contract::earlier::Earlier;
use crate::error::CallError;
use crate::guest_log::Level;
use crate::limits::Allowance;
use crate::runtime::generation::Generation;

/// At most one guest log line in this time. The metrics count every difference.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// An event and the stable generation's answer to it.
pub(crate) struct Happened {
    pub(crate) channel: ChannelKey,
    pub(crate) event: Event,
    pub(crate) message: Option<Message>,
    pub(crate) earlier: Option<Earlier>,
    pub(crate) stable: Result<Vec<Effect>, CallError>,
}

/// Queues the event for the shadow, or drops and counts it.
pub(crate) fn give(generation: &Arc<Generation>, allowance: &Arc<Allowance>, happened: Happened) {
    let (candidate, allowance) = (Arc::clone(generation), Arc::clone(allowance));
    let queued = generation.deferred().queue(async move { compare(&candidate, &allowance, happened).await });
    if !queued {
        count(generation, "dropped");
    }
}

fn count(generation: &Generation, result: &'static str) {
    let plugin = Label::from(generation.name().to_owned());
    PLUGIN_SHADOW.add([plugin, Label::from(result)], 1);
}

async fn compare(generation: &Generation, allowance: &Arc<Allowance>, happened: Happened) {
    let Happened { channel, event, message, earlier, stable } = happened;
    let candidate = generation.call(&channel, &event, message.as_ref(), earlier.as_ref(), allowance).await.answer;
    let (result, line) = match difference(&stable, &candidate) {
        None => ("same", None),
        Some(line) if candidate.as_ref().is_err_and(CallError::is_fault) => ("failed", Some(line)),
        Some(line) => ("differs", Some(line)),
    };
    count(generation, result);
    if let Some(line) = line
        && generation.deferred().may_write(LINE_EVERY)
    {
        let line = format!("shadow of {}: {line}", event.kind);
        generation.author().write(Some(&channel.tenant), Level::Warn, line);
    }
}

/// Describes how the shadow's answer differs, or `None` if it does not. Names only the kinds of effects, never their
/// content.
fn difference(stable: &Result<Vec<Effect>, CallError>, candidate: &Result<Vec<Effect>, CallError>) -> Option<String> {
    let (stable, candidate) = match (stable, candidate) {
        (Ok(stable), Ok(candidate)) => (stable, candidate),
        (Err(stable), Err(candidate)) if stable.word() == candidate.word() => return None,
        (stable, candidate) => {
            let word = |answer: &Result<_, CallError>| answer.as_ref().map_or_else(CallError::word, |_| "ok");
            return Some(format!(
                "it answers `{}` where the stable generation answers `{}`",
                word(candidate),
                word(stable)
            ));
        }
    };
    if stable.len() != candidate.len() {
        return Some(format!(
            "it requests {} effects where the stable generation requests {}",
            candidate.len(),
            stable.len()
        ));
    }
    let at = stable.iter().zip(candidate).position(|(stable, candidate)| plain(stable) != plain(candidate))?;
    let word = |effects: &[Effect]| plain(&effects[at])["effect"].as_str().unwrap_or_default().to_owned();
    Some(format!("effect {} of {} differs: `{}` instead of `{}`", at + 1, stable.len(), word(candidate), word(stable)))
}

/// A form of an effect that ignores whitespace and the order of object members.
fn plain(effect: &Effect) -> Value {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
    match effect {
        Effect::Store(Draft { kind, content, reply_to, attachments }) => json!({
            "effect": "store", "kind": kind, "content": read(content.get()), "reply_to": reply_to,
            "attachments": read(attachments.get()),
        }),
        Effect::Amend(Amendment { message, content }) => json!({
            "effect": "amend", "message": message, "content": content.as_ref().map(|content| read(content.get())),
        }),
        Effect::MarkRead(mark) => json!({"effect": "mark-read", "kind": mark.kind, "message": mark.message}),
        Effect::KvPut(write) => json!({
            "effect": "kv-put", "key": write.key, "value": write.value, "expected": write.expected,
            "expires_at": write.expires_at.map(|at| at.0),
        }),
        Effect::Broadcast(signal) => {
            let audience = match &signal.audience {
                Audience::Channel => json!("channel"),
                Audience::Except(user) => json!({"except": user}),
                Audience::Users(users) => json!({"users": users}),
            };
            let payload = read(signal.payload.get());
            json!({"effect": "broadcast", "kind": signal.kind, "audience": audience, "payload": payload})
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn draft(content: &str) -> Effect {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let (kind, content) = ("chat.message".parse().unwrap(), raw(content));
        Effect::Store(Draft { kind, content, reply_to: None, attachments: raw("[]") })
    }

    #[test]
    fn answers_are_compared_by_what_they_mean() {
        let denied = |text: &str| Err(CallError::Denied(text.to_owned()));
        for (stable, candidate, same) in [
            (Ok(vec![draft(r#"{"a":1,"b":2}"#)]), Ok(vec![draft(r#"{ "b": 2, "a": 1 }"#)]), true),
            (Ok(vec![draft("1")]), Ok(vec![draft("2")]), false),
            (Ok(vec![draft("1")]), Ok(Vec::new()), false),
            (Ok(Vec::new()), denied("no"), false),
            (denied("no"), denied("not like this"), true),
            (denied("no"), Err(CallError::TimedOut), false),
        ] {
            let found = difference(&stable, &candidate);
            assert_eq!(found.is_none(), same, "{stable:?} {candidate:?}: {found:?}");
            assert!(found.is_none_or(|line| !line.contains('\n')));
        }
    }
}
