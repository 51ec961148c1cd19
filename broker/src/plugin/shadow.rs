//! Gives events to a generation that is tried out, after they were handled, and compares what it asks for.
//!
//! Nobody waits for it and nothing of what it asks for is done. Each generation that is tried out has one call at a time and
//! a bounded queue of its own, so that a slow one keeps no other waiting; what finds no place there is left out and counted.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::log::Level;
use super::{CallError, Earlier, Handler};
use crate::model::{Amendment, Audience, ChannelKey, Draft, Effect, Event, Message};

/// Events that wait for a generation that is tried out.
const WAITING: usize = 256;

/// At most one line in the plugin's log in this time; the metrics count each difference.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What happened, and what came of it.
pub(super) struct Happened {
    pub(super) shadow: Arc<Handler>,
    pub(super) channel: ChannelKey,
    pub(super) event: Event,
    pub(super) message: Option<Message>,
    pub(super) earlier: Option<Earlier>,
    pub(super) stable: Result<Vec<Effect>, CallError>,
}

/// The queue of a generation, which is there from its first event on and ends with the generation.
#[derive(Debug, Default)]
pub(super) struct Comparisons {
    queue: OnceLock<mpsc::Sender<Happened>>,
}

impl Comparisons {
    /// Gives it to the shadow later, if there is room.
    pub(super) fn give(&self, happened: Happened) {
        let queue = self.queue.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(WAITING);
            tokio::spawn(compare(receiver));
            sender
        });
        if let Err(left_out) = queue.try_send(happened) {
            count(&left_out.into_inner().shadow, "dropped");
        }
    }
}

fn count(shadow: &Handler, result: &'static str) {
    let plugin = shadow.generation.name().to_owned();
    metrics::counter!("switchboard_plugin_shadow_total", "plugin" => plugin, "result" => result).increment(1);
}

async fn compare(mut queue: mpsc::Receiver<Happened>) {
    let said = Mutex::new(None::<Instant>);
    while let Some(happened) = queue.recv().await {
        let Happened { shadow, channel, event, message, earlier, stable } = happened;
        let candidate = shadow.call(&channel, &event, message.as_ref(), earlier.as_ref()).await;
        let (result, line) = match difference(&stable, &candidate) {
            None => ("same", None),
            Some(line) if candidate.as_ref().is_err_and(CallError::is_fault) => ("failed", Some(line)),
            Some(line) => ("differs", Some(line)),
        };
        count(&shadow, result);
        let Some(line) = line else { continue };
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= LINE_EVERY) {
            *said = Some(Instant::now());
            let line = format!("shadow of {}: {line}", event.kind);
            shadow.generation.author().write(Some(&channel.tenant), Level::Warn, line);
        }
    }
}

/// How a candidate's answer differs from the stable one's, if it does. Contents are not told, only their kind.
fn difference(stable: &Result<Vec<Effect>, CallError>, candidate: &Result<Vec<Effect>, CallError>) -> Option<String> {
    let (stable, candidate) = match (stable, candidate) {
        (Ok(stable), Ok(candidate)) => (stable, candidate),
        (Err(stable), Err(candidate)) if stable.word() == candidate.word() => return None,
        (stable, candidate) => {
            let word = |answer: &Result<_, CallError>| answer.as_ref().map_or_else(CallError::word, |_| "ok");
            return Some(format!("it answers `{}` where the stable one answers `{}`", word(candidate), word(stable)));
        }
    };
    if stable.len() != candidate.len() {
        return Some(format!("it asks for {} effects, and the stable one for {}", candidate.len(), stable.len()));
    }
    let at = stable.iter().zip(candidate).position(|(stable, candidate)| plain(stable) != plain(candidate))?;
    let word = |effects: &[Effect]| plain(&effects[at])["effect"].as_str().unwrap_or_default().to_owned();
    Some(format!("effect {} of {} is another: `{}`, and `{}`", at + 1, stable.len(), word(candidate), word(stable)))
}

/// An effect in a form in which spaces and the order of names do not count.
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
