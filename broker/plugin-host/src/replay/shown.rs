//! What came of an event, as people and programs read it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::CallError;
use crate::guest_log::LogLine;
use crate::recording::recorded::bytes_to_json;
use switchboard_model::{Audience, Effect};

/// What came of an event.
#[derive(Debug)]
pub struct Played {
    /// What the handler asks for, or why not.
    pub asked: Result<Vec<Effect>, CallError>,
    /// The key that had another version than the handler expected, at the last try.
    pub conflict: Option<String>,
    /// Time on a processor.
    pub time: Duration,
    /// Whether an instance had to be started for it; its start is in neither time nor fuel.
    pub started: bool,
    /// Units of work that the engine counted: about one an instruction.
    pub fuel: u64,
    /// The most memory that the instance had so far, in bytes.
    pub memory: usize,
    /// Host reads.
    pub reads: u32,
    /// Host reads to which nothing was recorded, so that the answer was nothing.
    pub unrecorded: u32,
    /// What it wrote and printed.
    pub log: Vec<Arc<LogLine>>,
}

impl Played {
    /// Whether the handler is at fault. That it refused an event is an answer.
    pub fn is_failure(&self) -> bool {
        self.asked.as_ref().is_err_and(CallError::is_fault) || self.conflict.is_some()
    }
}

/// What a handler answered, in a form that can be compared and printed: a line an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown(Vec<Value>);

impl Shown {
    /// What came of an event.
    pub fn of(played: &Played) -> Self {
        let lines = match (&played.asked, &played.conflict) {
            (_, Some(key)) => vec![json!({ "conflict": key })],
            (Ok(effects), None) => effects.iter().map(effect).collect(),
            (Err(error), None) => vec![refusal(error)],
        };
        Self(lines)
    }

    /// The answer as one JSON value.
    pub fn to_json(&self) -> Value {
        Value::Array(self.0.clone())
    }

    /// Where another answer differs: each line that only one of them has, what is gone before what is new.
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
    /// A line an effect, or one line that says why there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        let lines: Vec<String> = self.0.iter().map(text).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// `store {"kind":…}` for `{"store":{"kind":…}}`.
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
        CallError::UnknownMessage => json!({ "invalid": "it names a message that is no message" }),
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
