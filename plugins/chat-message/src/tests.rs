//! How the handler treats valid and invalid frames.

use serde_json::Value;
use switchboard_plugin_sdk::mock::{self, MockHost};

use super::*;

fn handle(message: Value) -> Outcome {
    let frame = json!({ "id": "c1", "channel": "elsewhere", "message": message });
    ChatMessage.handle(mock::event("chat.message", frame), &MockHost::new())
}

fn stored(message: Value) -> Draft {
    match handle(message).unwrap().as_slice() {
        [Effect::Store(draft)] => draft.clone(),
        other => panic!("one draft expected, not {other:?}"),
    }
}

fn refused(message: Value) -> String {
    match handle(message) {
        Err(Failure::Invalid(text)) => text,
        other => panic!("a refusal expected, not {other:?}"),
    }
}

#[test]
fn a_text_is_short_for_an_object() {
    let draft = Draft::new("chat.message", " say \"hi\"\n").unwrap();
    assert_eq!(stored(json!(" say \"hi\"\n")), draft);
    assert_eq!(stored(json!({ "content": " say \"hi\"\n" })), draft);
    assert_eq!(stored(json!({ "content": " say \"hi\"\n", "reply_to": null, "attachments": null })), draft);
}

#[test]
fn an_answer_and_its_attachments_are_kept_as_sent() {
    let frame = r#"{"message":{"attachments":[{"z":1e400,"a":[ 12345678901234567890123 ]},{}],"content":"hi","reply_to":"m1"}}"#;
    let event = Event { json: frame.to_owned(), ..mock::event("chat.message", json!({})) };
    let effects = ChatMessage.handle(event, &MockHost::new()).unwrap();
    let expected = Draft {
        kind: "chat.message".to_owned(),
        content: r#""hi""#.to_owned(),
        reply_to: Some("m1".to_owned()),
        attachments: vec![r#"{"z":1e400,"a":[ 12345678901234567890123 ]}"#.to_owned(), "{}".to_owned()],
    };
    assert_eq!(effects, [Effect::Store(expected)]);
}

#[test]
fn the_length_counts_characters_between_the_blanks() {
    let longest = format!(" {}\n", "ü".repeat(MAX_CHARS));
    assert_eq!(stored(json!(longest)).content, json!(longest).to_string());
    assert_eq!(refused(json!("ü".repeat(MAX_CHARS + 1))), "the message is longer than 8000 characters");
}

#[test]
fn nothing_said_needs_an_attachment() {
    for content in ["", " \n\t"] {
        assert_eq!(refused(json!(content)), "the message is empty");
        assert_eq!(refused(json!({ "content": content, "attachments": [] })), "the message is empty");
        stored(json!({ "content": content, "attachments": [{ "url": "a" }] }));
    }
}

#[test]
fn attachments_are_at_most_ten_objects() {
    let with = |attachments: Vec<Value>| json!({ "content": "hi", "attachments": attachments });
    assert_eq!(stored(with(vec![json!({}); MAX_ATTACHMENTS])).attachments.len(), MAX_ATTACHMENTS);
    assert_eq!(refused(with(vec![json!({}); MAX_ATTACHMENTS + 1])), "there are more than 10 attachments");
    assert_eq!(refused(with(vec![json!({}), json!("a")])), "each of `attachments` must be an object");
}

#[test]
fn the_character_zero_is_refused_wherever_it_stands() {
    for message in [
        json!("a\0"),
        json!({ "content": "a", "reply_to": "m\0" }),
        json!({ "content": "a", "attachments": [{ "name": "\0" }] }),
        json!({ "content": "a", "attachments": [{ "a\\\0": 1 }] }),
    ] {
        assert_eq!(refused(message), "the message contains the character U+0000");
    }
    stored(json!({ "content": "a", "attachments": [{ "path": "C:\\u0000" }] }));
}

#[test]
fn a_wrong_type_is_named_with_its_field() {
    for (message, text) in [
        (json!(5), "`message` must be a string or an object with `content`"),
        (json!(null), "`message` must be a string or an object with `content`"),
        (json!(["hi"]), "`message` must be a string or an object with `content`"),
        (json!({}), "missing field `content` in `message`"),
        (json!({ "content": 5 }), "`message.content` must be a string"),
        (json!({ "content": "hi", "reply_to": 5 }), "`message.reply_to` must be a string"),
        (json!({ "content": "hi", "attachments": {} }), "`message.attachments` must be a list"),
    ] {
        assert_eq!(refused(message), text);
    }
    let nothing = ChatMessage.handle(mock::event("chat.message", json!({})), &MockHost::new());
    assert_eq!(nothing, Err(Failure::invalid("missing field `message`")));
}
