//! What a component says: its description, its imports, and the effects that it asks for.
//!
//! It asserts of a description that is accepted: bounded lists without repetitions, no kind of the broker's own, every import
//! among what it wants; of one that is refused: one line of bounded length. Of effects that are accepted: bounded in number and
//! bytes, and JSON that every client can read, of the form that the contract names.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use switchboard::fuzzing::plugin::contract::types::{
    Amendment, Audience, Draft, Effect as Asked, KvWrite as Write, ReadMark, Signal,
};
use switchboard::fuzzing::plugin::contract::{Said, describe, effects};
use switchboard::model::catalogue::{Durability, Origin};
use switchboard::model::json::check;
use switchboard::model::{Effect, KvWrite, Timestamp};
use switchboard::plugin::Limits;
use switchboard_fuzz::Input;

/// Longest refusal of a description, in bytes.
const LINE: usize = 2_048;
const KINDS: usize = 32;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    if input.byte() & 1 == 0 {
        description(&mut input);
    } else {
        asked(&mut input);
    }
});

fn description(input: &mut Input<'_>) {
    let (name, version) = (input.text(), input.text());
    let (mut kinds, mut watches, mut wants, mut imported) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while !input.is_empty() {
        let what = input.byte();
        let text = input.text();
        match what % 6 {
            0 => kinds.push((text, Origin::Client, Durability::Durable)),
            1 => kinds.push((text, Origin::Broker, Durability::Ephemeral)),
            2 => watches.push(text),
            3 => wants.push(text),
            4 => imported.push(text),
            // As many as the name has letters.
            _ => watches.extend((0..text.len()).map(|count| format!("kind-{count}"))),
        }
    }
    let imported: Vec<&str> = imported.iter().map(String::as_str).collect();
    let wanted = wants.clone();
    match describe(Said { name, version, kinds, watches, wants }, &imported) {
        Err(line) => {
            assert!(line.len() <= LINE, "a refusal has {} bytes", line.len());
            assert!(!line.chars().any(char::is_control), "not one line: {line:?}");
        }
        Ok(descriptor) => {
            assert!(descriptor.kinds.len() <= KINDS && descriptor.watches.len() <= KINDS);
            let kinds: BTreeSet<&str> = descriptor.kinds.iter().map(|spec| spec.kind.as_str()).collect();
            assert_eq!(kinds.len(), descriptor.kinds.len());
            assert!(
                ["auth", "auth.refresh", "subscribe", "unsubscribe", "ping"].iter().all(|own| !kinds.contains(own))
            );
            let watches: BTreeSet<&str> = descriptor.watches.iter().map(|kind| kind.as_str()).collect();
            assert_eq!(watches.len(), descriptor.watches.len());
            assert!(kinds.len() + watches.len() > 0);
            assert!(descriptor.wants.windows(2).all(|two| two[0] < two[1]));
            assert!(wanted.iter().all(|name| descriptor.wants.iter().any(|import| import.as_str() == name)));
            assert!((1..=64).contains(&descriptor.version.len()));
        }
    }
}

fn asked(input: &mut Input<'_>) {
    let limits = Limits { effects: 1 + usize::from(input.byte()) % 64, effect_bytes: 4_096, ..Limits::default() };
    let mut all = Vec::new();
    while !input.is_empty() {
        all.push(one(input));
    }
    let (count, at) = (all.len(), Timestamp(1_700_000_000_000));
    let Ok(effects) = effects(all, "7".parse().expect("an id"), at, &limits) else { return };
    assert!(effects.len() == count && count <= limits.effects);
    let mut bytes = 0;
    for effect in &effects {
        match effect {
            Effect::Store(draft) => {
                json(draft.content.get());
                let attachments = json(draft.attachments.get());
                assert!(attachments.as_array().expect("a list").iter().all(Value::is_object));
                bytes += draft.content.get().len();
            }
            Effect::Amend(amendment) => {
                if let Some(content) = &amendment.content {
                    json(content.get());
                    bytes += content.get().len();
                }
            }
            Effect::KvPut(write) => {
                assert!(KvWrite::is_key(&write.key));
                bytes += write.key.len() + write.value.as_ref().map_or(0, Vec::len);
                assert!(write.expires_at.is_none_or(|end| end >= at));
            }
            Effect::MarkRead(_) => {}
            Effect::Broadcast(signal) => {
                assert!(json(signal.payload.get()).is_object());
                bytes += signal.payload.get().len();
            }
        }
    }
    assert!(bytes <= limits.effect_bytes);
}

/// JSON that every client can read.
fn json(text: &str) -> Value {
    assert_eq!(check(text), Ok(()));
    serde_json::from_str(text).expect("JSON")
}

fn one(input: &mut Input<'_>) -> Asked {
    match input.byte() % 5 {
        0 => Asked::Store(Draft {
            kind: input.text(),
            content: input.text(),
            reply_to: input.optional(),
            attachments: (0..input.byte() % 4).map(|_| input.text()).collect(),
        }),
        1 => Asked::Amend(Amendment { message_id: input.text(), content: input.optional() }),
        2 => Asked::KvPut(Write {
            key: input.text(),
            value: (input.byte() & 1 == 1).then(|| input.part().to_vec()),
            ttl_ms: input.take(8).try_into().ok().map(u64::from_be_bytes),
            expected: input.optional().map(|text| text.len() as u64),
        }),
        3 => Asked::MarkRead(ReadMark { kind: input.text(), message_id: input.text() }),
        _ => Asked::Broadcast(Signal {
            audience: match input.byte() % 4 {
                0 => Audience::Channel,
                1 => Audience::ChannelExceptSender,
                2 => Audience::Sender,
                _ => Audience::Users((0..input.byte() % 4).map(|_| input.text()).collect()),
            },
            kind: input.text(),
            payload: input.text(),
        }),
    }
}
