//! `poll.create`, `poll.vote` and `poll.close`: let a channel vote.
//!
//! ```text
//! client   {"type":"poll.create","id":"c1","question":"Lunch?","options":["soup","salad"]}
//! all      {"type":"poll.create","channel":"…","seq":42,"message":{"id":"P","content":{"question":…,"options":[…]},…}}
//!
//! client   {"type":"poll.vote","id":"c2","poll_id":"P","option":1}
//! all      {"type":"poll.tally","channel":"…","poll_id":"P","tally":[0,1]}
//!
//! client   {"type":"poll.close","id":"c3","poll_id":"P"}
//! all      {"type":"poll.closed","channel":"…","seq":43,"message":{"content":{"tally":[0,1]},"reply_to":"P",…}}
//! ```
//!
//! The poll is a message, and so is its result. Until then, the votes are under one of the plugin's own keys. Two members
//! who vote at the same moment read the same votes, so each write states the version that it has read. The broker applies
//! the first and calls the handler again for the second: no vote is lost, and nothing here waits or locks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchboard_plugin_sdk::prelude::*;

/// Maximum number of options of a poll.
pub const MAX_OPTIONS: usize = 10;
/// Maximum length of a question or an option in characters.
pub const MAX_CHARS: usize = 200;

/// The handler of all three kinds. It keeps nothing from one event to the next.
#[derive(Debug, Default)]
pub struct Poll;

/// The frame that creates a poll, and the content of its message.
#[derive(Serialize, Deserialize)]
struct Question {
    question: String,
    options: Vec<String>,
}

/// The poll that frames of the other two kinds name.
#[derive(Deserialize)]
struct Named {
    poll_id: String,
}

#[derive(Deserialize)]
struct Vote {
    option: usize,
}

/// The value of the key of a poll, which is the poll's id.
#[derive(Default, Serialize, Deserialize)]
struct Votes {
    closed: bool,
    /// The option that each member voted for. About a thousand members fit into a value.
    votes: BTreeMap<String, usize>,
}

impl Handler for Poll {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] =
        &[Kind::durable("poll.create"), Kind::durable("poll.vote"), Kind::durable("poll.close")];
    const WANTS: &'static [Want] = &[Want::History, Want::Kv];

    fn handle(&mut self, event: Event, host: &impl Host) -> Outcome {
        if event.kind == "poll.create" {
            return create(&event);
        }
        let Named { poll_id } = event.payload()?;
        let poll = host.message(&poll_id)?.filter(|message| message.kind == "poll.create");
        let poll = poll.ok_or_else(|| Failure::invalid("there is no such poll in this channel"))?;
        let options = poll.content::<Question>().map_or(0, |question| question.options.len());
        let read = host.kv_get(&poll_id)?;
        let mut votes: Votes = read.as_ref().map_or(Ok(Votes::default()), KvEntry::json)?;
        if votes.closed {
            return Err(Failure::denied("the poll is closed"));
        }
        let told = if event.kind == "poll.vote" {
            let Vote { option } = event.payload()?;
            if option >= options {
                return Err(Failure::invalid("the poll has no such option"));
            }
            // A member's second vote replaces the first.
            votes.votes.insert(event.context.user.id, option);
            let payload = json!({ "poll_id": poll_id, "tally": votes.tally(options) });
            Effect::broadcast(Signal::to_channel("poll.tally", &payload)?)
        } else {
            if poll.sender.id != event.context.user.id {
                return Err(Failure::denied("only who made a poll may close it"));
            }
            votes.closed = true;
            let draft = Draft::new("poll.closed", &json!({ "tally": votes.tally(options) }))?;
            Effect::store(draft.reply_to(poll_id.clone()))
        };
        Ok(vec![Effect::kv_put(KvWrite::json(poll_id, &votes)?.if_unchanged(read.as_ref())), told])
    }
}

export!(Poll);

fn create(event: &Event) -> Outcome {
    let question: Question = event.payload()?;
    let is_text = |text: &str| (1..=MAX_CHARS).contains(&text.trim().chars().count()) && !text.contains('\0');
    if !(2..=MAX_OPTIONS).contains(&question.options.len()) {
        return Err(Failure::invalid(format!("a poll has 2 to {MAX_OPTIONS} options")));
    }
    if !is_text(&question.question) || !question.options.iter().all(|option| is_text(option)) {
        return Err(Failure::invalid(format!("a question and an option have 1 to {MAX_CHARS} characters")));
    }
    Ok(vec![Effect::store(Draft::new("poll.create", &question)?)])
}

impl Votes {
    fn tally(&self, options: usize) -> Vec<usize> {
        (0..options).map(|option| self.votes.values().filter(|&&vote| vote == option).count()).collect()
    }
}

#[cfg(test)]
mod tests;
