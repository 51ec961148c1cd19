//! Recordings of events: files that authors write, and lines that a recorder writes of live events.
//!
//! It asserts that a file which is accepted can be played, and that each of its events, written as a line, is one line that
//! reads as the same event; that a redacted event is such a line too, and another redaction of it has the same form; and that a
//! live event, whatever a client and a handler put into it, becomes such a line, redacted or not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use switchboard::fuzzing::plugin::recordings::{event, of};
use switchboard::model::json::check;
use switchboard::model::{ChannelKey, Event, Message, MessageId, Timestamp, User};
use switchboard::plugin::{Recorded, Redaction};
use switchboard::protocol::{ClientFrame, parse};
use switchboard_fuzz::Input;

const ID: &str = "0198a5c0-1111-7000-8000-000000000001";

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    if input.byte() & 1 == 0 {
        let Ok(events) = Recorded::read_lines(&input.text()) else { return };
        for (index, recorded) in events.iter().enumerate() {
            let (_, played, _) = event(recorded, index);
            assert!(serde_json::from_str::<Value>(&played.payload).is_ok_and(|payload| payload.is_object()));
            line(recorded);
        }
    } else if let Some(recorded) = live(&mut input) {
        let again = line(&recorded);
        let (channel, played, message) = event(&again, 0);
        assert_eq!((channel.tenant.as_str(), played.user.id.as_str().is_empty()), ("acme", false));
        assert_eq!(message.is_some(), again.message.is_some());
    }
});

/// The event of its line, redacted as well.
fn line(recorded: &Recorded) -> Recorded {
    let again = read_back(recorded);
    let mut redaction = Redaction::default();
    let redacted = redaction.apply(recorded);
    read_back(&redacted);
    read_back(&redaction.apply(recorded));
    again
}

fn read_back(recorded: &Recorded) -> Recorded {
    let written = serde_json::to_string(recorded).expect("an event has a line");
    assert!(!written.contains(['\n', '\r']), "more than a line: {written:?}");
    let mut read = Recorded::read_lines(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(read.len(), 1);
    let read = read.remove(0);
    assert_eq!(form(&serde_json::to_string(&read).expect("an event has a line")), form(&written));
    read
}

/// A text of JSON without its fractions, of which serde_json may read the last digit as another one.
fn form(text: &str) -> Value {
    fn erase(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => *value = Value::Null,
            Value::Array(items) => items.iter_mut().for_each(erase),
            Value::Object(members) => members.values_mut().for_each(erase),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).expect("JSON");
    erase(&mut value);
    value
}

/// A live event: a client's frame and, if there is more input, a message that a handler stored.
fn live(input: &mut Input<'_>) -> Option<Recorded> {
    let ClientFrame::Event(frame) = parse(input.text()).ok()? else { return None };
    let user = User { id: input.text().parse().ok()?, username: input.text().parse().ok()? };
    let channel = ID.parse().ok()?;
    let id: MessageId = ID.parse().ok()?;
    let at = Timestamp(1_700_000_000_000);
    let sent = Event {
        kind: frame.kind,
        payload: frame.payload,
        channel,
        user: user.clone(),
        session: None,
        client_id: frame.id,
        id,
        at,
    };
    // As effects are read: JSON that every client can read.
    let json = |text: String| RawValue::from_string(text).ok().filter(|value| check(value.get()).is_ok());
    let content = json(input.text());
    let attachments = json(format!("[{}]", input.text())).filter(|list| {
        serde_json::from_str::<Vec<Value>>(list.get()).is_ok_and(|all| all.iter().all(|one| one.is_object()))
    });
    let message = content.map(|content| Message {
        id,
        channel,
        seq: 7,
        kind: sent.kind.clone(),
        sender: user,
        content,
        reply_to: None,
        attachments: attachments.unwrap_or_else(|| RawValue::from_string("[]".to_owned()).expect("a list")),
        created_at: at,
        edited_at: None,
        deleted_at: None,
        read_by: Vec::new(),
    });
    Some(of(&ChannelKey { tenant: "acme".parse().ok()?, channel }, &sent, message.as_ref()))
}
