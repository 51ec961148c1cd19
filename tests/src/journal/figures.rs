//! Holds what was written down against what is stored.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::{MessageFrame, Record, Sent};
use crate::Latencies;

/// How many differences of a kind are named.
const NAMED: usize = 5;

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Messages said.
    pub invoked: u64,
    /// Of these, answered with an ack.
    pub acked: u64,
    /// Of the acks, those that said the message was there already.
    pub duplicates: u64,
    /// Refused for good.
    pub refused: u64,
    /// Never answered, and hence stored or not.
    pub unknown: u64,
    /// Messages in the history.
    pub stored: u64,
    /// Errors that said to try again, after which the same id was sent again.
    pub retries: u64,
    /// Connections of publishers after their first.
    pub publisher_reconnects: u64,
    /// Connections of readers after their first.
    pub reader_reconnects: u64,
    /// Of these, resumed by the broker.
    pub recovered: u64,
    /// Of these, caught up with pages of history.
    pub filled: u64,
    /// The longest time from sending to an ack or an error.
    pub slowest_answer: Duration,
    /// How long the acks took, each from the last time its message was sent.
    pub acks: Latencies,
    /// The longest time from an ack to the moment when a reader heard the message.
    pub slowest_delivery: Duration,
    /// How long after the last answer every reader had heard the whole history.
    pub caught_up: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} invoked, {} acked ({} as duplicates), {} refused, {} unknown; {} stored; {} errors to retry; \
             {} reconnects of publishers, {} of readers ({} resumed, {} filled over HTTP); \
             acks: {}; slowest answer {:?}, slowest delivery {:?}; live equalled history after {:?}",
            self.invoked,
            self.acked,
            self.duplicates,
            self.refused,
            self.unknown,
            self.stored,
            self.retries,
            self.publisher_reconnects,
            self.reader_reconnects,
            self.recovered,
            self.filled,
            self.acks,
            self.slowest_answer,
            self.slowest_delivery,
            self.caught_up,
        )
    }
}

/// The figures, or the rules that do not hold.
pub(super) fn check(
    name: &str,
    record: &Record,
    stored: &[MessageFrame],
    caught_up: Duration,
) -> Result<Figures, Vec<String>> {
    let mut broken: Vec<String> = record.broken.iter().take(NAMED).cloned().collect();
    let mut break_rule = |differences: Vec<String>| broken.extend(differences.into_iter().take(NAMED));
    break_rule(numbering(stored));
    break_rule(stored_once(name, record, stored));
    break_rule(acked_is_stored(record, stored));
    for (reader, heard) in record.heard.iter().enumerate() {
        break_rule(heard_is_stored(reader, heard, stored));
    }
    if !broken.is_empty() {
        return Err(broken);
    }
    let count = |wanted: fn(&Sent) -> bool| record.sent.values().filter(|sent| wanted(sent)).count() as u64;
    Ok(Figures {
        invoked: record.sent.len() as u64,
        acked: count(|sent| matches!(sent, Sent::Acked { .. })),
        duplicates: count(|sent| matches!(sent, Sent::Acked { duplicate: true, .. })),
        refused: count(|sent| matches!(sent, Sent::Refused(_))),
        unknown: count(|sent| matches!(sent, Sent::Unknown)),
        stored: stored.len() as u64,
        retries: record.retries.iter().sum(),
        publisher_reconnects: record.publisher_connections.saturating_sub(record.retries.len() as u64),
        reader_reconnects: record.reader_connections.saturating_sub(record.heard.len() as u64),
        recovered: record.recovered,
        filled: record.filled,
        slowest_answer: record.slowest_answer,
        acks: record.acks.iter().copied().collect(),
        slowest_delivery: slowest_delivery(record),
        caught_up,
    })
}

fn numbering(stored: &[MessageFrame]) -> Vec<String> {
    let places = stored.iter().zip(1..).filter(|(said, seq)| said.seq != *seq);
    places.map(|(said, seq)| format!("history has the number {} where {seq} belongs", said.seq)).collect()
}

/// Each text was said here, and is there once.
fn stored_once(name: &str, record: &Record, stored: &[MessageFrame]) -> Vec<String> {
    let mut places: HashMap<&str, u64> = HashMap::new();
    let mut differences = Vec::new();
    for said in stored {
        if let Some(before) = places.insert(&said.text, said.seq) {
            differences.push(format!("`{}` is stored at {before} and at {}", said.text, said.seq));
        }
        match record.sent.get(&said.text) {
            None => differences.push(format!("`{}` at {} was never said in {name}", said.text, said.seq)),
            Some(Sent::Refused(code)) => {
                differences.push(format!("`{}` was refused with {code} and is stored at {}", said.text, said.seq));
            }
            Some(_) => {}
        }
    }
    differences
}

fn acked_is_stored(record: &Record, stored: &[MessageFrame]) -> Vec<String> {
    let by_text: HashMap<&str, &MessageFrame> = stored.iter().map(|said| (said.text.as_str(), said)).collect();
    let acked = record.sent.iter().filter_map(|(id, sent)| match sent {
        Sent::Acked { message, seq, .. } => Some((id, message, *seq)),
        _ => None,
    });
    acked
        .filter_map(|(id, message, seq)| match by_text.get(id.as_str()) {
            None => Some(format!("`{id}` was acked at {seq} and is lost")),
            Some(said) if said.seq != seq || said.message != *message => {
                Some(format!("`{id}` was acked as {message} at {seq} and is stored as {said:?}"))
            }
            Some(_) => None,
        })
        .collect()
}

fn heard_is_stored(reader: usize, heard: &[(MessageFrame, Instant)], stored: &[MessageFrame]) -> Vec<String> {
    let mut differences: Vec<String> = heard
        .iter()
        .zip(stored)
        .filter(|((heard, _), stored)| heard != *stored)
        .map(|((heard, _), stored)| format!("reader {reader} heard {heard:?} where history has {stored:?}"))
        .collect();
    if heard.len() != stored.len() {
        differences.push(format!("reader {reader} heard {} messages of {}", heard.len(), stored.len()));
    }
    differences
}

/// Often below zero, which counts as zero: a message may be heard before it is acked.
fn slowest_delivery(record: &Record) -> Duration {
    let heard = record.heard.iter().flatten();
    let delays = heard.filter_map(|(said, heard)| match record.sent.get(&said.text) {
        Some(Sent::Acked { at, .. }) => Some(heard.saturating_duration_since(*at)),
        _ => None,
    });
    delays.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three messages, acked and stored and heard as they should be.
    fn sound() -> (Record, Vec<MessageFrame>) {
        let now = Instant::now();
        let said = |seq| MessageFrame { seq, message: format!("m{seq}"), text: format!("c{seq}") };
        let stored: Vec<MessageFrame> = (1..=3).map(said).collect();
        let acked = |said: &MessageFrame| {
            let (message, seq) = (said.message.clone(), said.seq);
            (said.text.clone(), Sent::Acked { message, seq, duplicate: false, at: now })
        };
        let record = Record {
            sent: stored.iter().map(acked).collect(),
            heard: vec![stored.iter().map(|said| (said.clone(), now)).collect()],
            ..Record::default()
        };
        (record, stored)
    }

    fn broken(change: impl FnOnce(&mut Record, &mut Vec<MessageFrame>)) -> String {
        let (mut record, mut stored) = sound();
        change(&mut record, &mut stored);
        check("c", &record, &stored, Duration::ZERO).expect_err("it is not sound").join("\n")
    }

    #[test]
    fn what_is_sound_passes() {
        let (record, stored) = sound();
        let figures = check("c", &record, &stored, Duration::ZERO).expect("nothing is wrong");
        assert_eq!((figures.acked, figures.stored, figures.unknown), (3, 3, 0));
    }

    #[test]
    fn what_was_acked_must_be_stored_at_its_place_under_its_id() {
        assert!(broken(|_, stored| drop(stored.pop())).contains("`c3` was acked at 3 and is lost"));
        assert!(broken(|_, stored| stored[1].message = "m9".to_owned()).contains("`c2` was acked as m2"));
    }

    #[test]
    fn nothing_is_stored_twice_or_unsaid_or_refused() {
        let again = |_: &mut Record, stored: &mut Vec<MessageFrame>| {
            stored.push(MessageFrame { seq: 4, message: "m4".to_owned(), text: "c1".to_owned() });
        };
        assert!(broken(again).contains("`c1` is stored at 1 and at 4"));
        assert!(broken(|record, _| drop(record.sent.remove("c2"))).contains("`c2` at 2 was never said"));
        let refuse = |record: &mut Record, _: &mut Vec<MessageFrame>| {
            record.sent.insert("c2".to_owned(), Sent::Refused(108));
        };
        assert!(broken(refuse).contains("was refused with 108 and is stored"));
    }

    #[test]
    fn numbers_have_no_gap() {
        assert!(broken(|_, stored| stored[2].seq = 4).contains("the number 4 where 3 belongs"));
    }

    #[test]
    fn what_was_heard_is_the_history() {
        assert!(broken(|record, _| record.heard[0].swap(0, 1)).contains("reader 0 heard"));
        assert!(broken(|record, _| drop(record.heard[0].pop())).contains("reader 0 heard 2 messages of 3"));
    }
}
