//! The result of a replayed event, for people and programs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::CallError;
use crate::guest_log::LogLine;
use crate::recording::recorded::bytes_to_json;
use switchboard_model::{Audience, Effect};

#[derive(Debug)]
pub struct Played {
    /// The effects, or why there are none.
    pub asked: Result<Vec<Effect>, CallError>,
    /// The key whose version did not match on the last attempt.
    pub conflict: Option<String>,
    /// Processor time.
    pub time: Duration,
    /// Whether a new instance was started. Its start counts in neither `time` nor `fuel`.
    pub started: bool,
    /// Fuel units, about one for each instruction.
    pub fuel: u64,
    /// Bytes of memories and tables; they never shrink.
    pub memory: usize,
    pub reads: u32,
    /// Host reads without a recorded answer. They were answered from earlier writes, or with nothing.
    pub unrecorded: u32,
    pub log: Vec<Arc<LogLine>>,
}

impl Played {
    /// Whether the handler is at fault. Refusing an event is not a fault.
    pub fn is_failure(&self) -> bool {
        self.asked.as_ref().is_err_and(CallError::is_fault) || self.conflict.is_some()
    }
}

/// A handler's answer in a form that can be compared and printed, one line for each effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown(Vec<Value>);

impl Shown {
    pub fn of(played: &Played) -> Self {
        let lines = match (&played.asked, &played.conflict) {
            (_, Some(key)) => vec![json!({ "conflict": key })],
            (Ok(effects), None) => effects.iter().map(effect).collect(),
            (Err(error), None) => vec![refusal(error)],
        };
        Self(lines)
    }

    pub fn to_json(&self) -> Value {
        Value::Array(self.0.clone())
    }

    /// The lines that only one of the answers has, old ones first.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (old, new) = (&self.0, &other.0);
        let same = |pair: &(&Value, &Value)| pair.0 == pair.1;
        let head = old.iter().zip(new).take_while(same).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
        let gone = old[head..old.len() - tail].iter().map(|line| format!("- {}", text(line)));
        let come = new[head..new.len() - tail].iter().map(|line| format!("+ {}", text(line)));
        gone.chain(come).collect()
    }
}

impl fmt::Display for Shown {
    /// One line for each effect, or one line that says why there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        let lines: Vec<String> = self.0.iter().map(text).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Turns `{"store":{"kind":…}}` into `store {"kind":…}`.
fn text(line: &Value) -> String {
    match line.as_object().and_then(|object| object.iter().next()) {
        Some((name, Value::String(inside))) => format!("{name} {inside}"),
        Some((name, Value::Null)) => name.clone(),
        Some((name, inside)) => format!("{name} {inside}"),
        None => line.to_string(),
    }
}

fn effect(effect: &Effect) -> Value {
    match effect {
        Effect::Store(draft) => {
            let mut inside = object(json!({ "kind": draft.kind, "content": draft.content }));
            if let Some(answered) = draft.reply_to {
                inside.insert("reply_to".to_owned(), json!(answered));
            }
            if draft.attachments.get() != "[]" {
                inside.insert("attachments".to_owned(), json!(draft.attachments));
            }
            json!({ "store": inside })
        }
        Effect::Amend(amendment) => match &amendment.content {
            Some(content) => json!({ "amend": { "message_id": amendment.message, "content": content } }),
            None => json!({ "delete": { "message_id": amendment.message } }),
        },
        Effect::MarkRead(mark) => json!({ "mark_read": { "kind": mark.kind, "message_id": mark.message } }),
        Effect::KvPut(write) => {
            let value = write.value.as_deref().map_or(Value::Null, bytes_to_json);
            let mut inside = object(json!({ "key": write.key, "value": value }));
            if let Some(version) = write.expected {
                inside.insert("expected".to_owned(), json!(version));
            }
            if let Some(end) = write.expires_at {
                inside.insert("expires_at".to_owned(), json!(end));
            }
            json!({ "kv_put": inside })
        }
        Effect::Broadcast(signal) => {
            let audience = match &signal.audience {
                Audience::Channel => json!("channel"),
                Audience::Except(user) => json!({ "except": user }),
                Audience::Users(users) => json!({ "users": users }),
            };
            json!({ "broadcast": { "audience": audience, "kind": signal.kind, "payload": signal.payload } })
        }
    }
}

fn refusal(error: &CallError) -> Value {
    match error {
        CallError::Invalid(text) => json!({ "invalid": text }),
        CallError::Denied(text) => json!({ "denied": text }),
        CallError::Retry(after) => json!({ "retry": { "after_ms": after } }),
        CallError::UnknownMessage => json!({ "invalid": "it names a message that does not exist" }),
        CallError::Failed(text) => json!({ "failed": text }),
        CallError::Trapped(text) => json!({ "trapped": text }),
        CallError::TimedOut => json!({ "timed out": null }),
        CallError::Busy => json!({ "busy": null }),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_lines_that_only_one_has() {
        let stored = |kinds: &[&str]| Shown(kinds.iter().map(|kind| json!({ "store": { "kind": kind } })).collect());
        let (old, new) = (stored(&["a", "b", "c"]), stored(&["a", "c"]));
        assert!(old.differences(&old).is_empty());
        assert_eq!(old.differences(&new), [r#"- store {"kind":"b"}"#]);
        let refused = Shown(vec![json!({ "denied": "no" })]);
        assert_eq!(new.differences(&refused), [r#"- store {"kind":"a"}"#, r#"- store {"kind":"c"}"#, "+ denied no"]);
    }
}
