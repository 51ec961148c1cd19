//! A poll from its question to its result.

use serde_json::Value;
use switchboard_plugin_sdk::mock::{self, MockHost};

use super::*;

/// A channel in which `alice` asks what is for lunch, and `bob` has sent a message.
fn lunch() -> MockHost {
    let content = json!({ "question": "Lunch?", "options": ["soup", "salad"] });
    let poll = Message { kind: "poll.create".to_owned(), ..mock::message(1, "alice", &content) };
    MockHost::new().with_messages([poll, mock::message(2, "bob", &json!("hi"))])
}

fn of(kind: &str, user: &str, frame: Value) -> Event {
    let event = mock::event(kind, frame);
    Event { context: Context { user: mock::user(user), ..event.context }, ..event }
}

fn vote(host: &MockHost, user: &str, option: usize) -> Outcome {
    Poll.handle(of("poll.vote", user, json!({ "poll_id": "message-1", "option": option })), host)
}

fn close(host: &MockHost, user: &str) -> Outcome {
    Poll.handle(of("poll.close", user, json!({ "poll_id": "message-1" })), host)
}

fn result(tally: Value) -> Effect {
    let draft = Draft::new("poll.closed", &json!({ "tally": tally })).unwrap();
    Effect::store(draft.reply_to("message-1".to_owned()))
}

#[test]
fn a_question_becomes_a_message() {
    let frame = json!({ "question": "Lunch?", "options": ["soup", "salad"], "id": "c1" });
    let content = json!({ "question": "Lunch?", "options": ["soup", "salad"] });
    match Poll.handle(of("poll.create", "alice", frame), &MockHost::new()).unwrap().as_slice() {
        [Effect::Store(draft)] => {
            assert_eq!(serde_json::from_str::<Value>(&draft.content).unwrap(), content);
            assert_eq!(draft.kind, "poll.create");
        }
        other => panic!("one draft expected, not {other:?}"),
    }
}

#[test]
fn everybody_has_one_vote() {
    let mut host = lunch();
    for (user, option) in [("alice", 0), ("bob", 1), ("carol", 1), ("alice", 1)] {
        let effects = vote(&host, user, option).unwrap();
        host.apply(&effects).unwrap();
    }
    assert_eq!(close(&host, "alice").unwrap()[1], result(json!([0, 3])));
}

#[test]
fn of_two_votes_at_once_none_is_lost() {
    let mut host = lunch();
    let (first, second) = (vote(&host, "alice", 0).unwrap(), vote(&host, "bob", 1).unwrap());
    host.apply(&first).unwrap();
    assert_eq!(host.apply(&second), Err(mock::Conflict), "it was counted without the first");
    let again = vote(&host, "bob", 1).unwrap();
    host.apply(&again).unwrap();
    assert_eq!(close(&host, "alice").unwrap()[1], result(json!([1, 1])));
}

#[test]
fn a_closed_poll_stays_closed() {
    let mut host = lunch();
    assert_eq!(close(&host, "bob"), Err(Failure::denied("only who made a poll may close it")));
    let closed = close(&host, "alice").unwrap();
    host.apply(&closed).unwrap();
    assert_eq!(vote(&host, "bob", 1), Err(Failure::denied("the poll is closed")));
    assert_eq!(close(&host, "alice"), Err(Failure::denied("the poll is closed")));
}

#[test]
fn what_is_no_poll_or_no_option_is_refused() {
    assert_eq!(vote(&lunch(), "bob", 2), Err(Failure::invalid("the poll has no such option")));
    for id in ["message-2", "message-3"] {
        let event = of("poll.vote", "bob", json!({ "poll_id": id, "option": 0 }));
        assert_eq!(Poll.handle(event, &lunch()), Err(Failure::invalid("there is no such poll in this channel")));
    }
    for (question, options) in [("Lunch?", 1), ("Lunch?", MAX_OPTIONS + 1), (" ", 2), (&"x".repeat(MAX_CHARS + 1), 2)] {
        let frame = json!({ "question": question, "options": vec!["soup"; options] });
        let created = Poll.handle(of("poll.create", "alice", frame), &MockHost::new());
        assert!(matches!(created, Err(Failure::Invalid(_))), "{created:?}");
    }
}
