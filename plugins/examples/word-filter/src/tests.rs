//! What is replaced, what is refused, and which configurations are refused.

use switchboard_plugin_sdk::mock::{self, MockHost};

use super::*;

fn configured() -> WordFilter {
    let mut filter = WordFilter::default();
    filter.init(r#"{"replace":{"Darn":"d**n"},"refuse":["spam"]}"#).unwrap();
    filter
}

fn say(message: Value) -> Outcome {
    configured().handle(mock::event("chat.message", json!({ "message": message })), &MockHost::new())
}

fn stored(content: &str) -> Outcome {
    Ok(vec![Effect::store(Draft::new("chat.message", content).unwrap())])
}

#[test]
fn words_are_replaced_whole_and_in_any_case() {
    assert_eq!(say(json!("Darn it, darn.")), stored("d**n it, d**n."));
    assert_eq!(say(json!("darning a sock  ü")), stored("darning a sock  ü"));
    assert_eq!(say(json!({ "content": "DARN" })), stored("d**n"));
}

#[test]
fn a_refused_word_is_named() {
    assert_eq!(say(json!("buy SPAM!")), Err(Failure::denied("`spam` is not said here")));
    assert!(say(json!("spammer")).is_ok());
}

#[test]
fn what_is_no_message_is_refused() {
    assert_eq!(say(json!(" ")), Err(Failure::invalid("the message is empty")));
    assert!(matches!(say(json!(5)), Err(Failure::Invalid(_))));
}

#[test]
fn a_configuration_that_makes_no_sense_is_explained() {
    for (config, part) in [
        ("", "must be like"),
        ("{", "must be like"),
        (r#"{"refused":["spam"]}"#, "unknown field `refused`"),
        ("{}", "names no word"),
        (r#"{"refuse":["two words"]}"#, "`two words` is no single word"),
        (r#"{"replace":{"":"x"}}"#, "no single word"),
    ] {
        let error = WordFilter::default().init(config).unwrap_err();
        assert!(error.contains(part), "{config}: {error}");
    }
}
