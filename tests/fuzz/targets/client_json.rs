//! The frames of clients, as text.
//!
//! It asserts of a frame that is accepted: it is JSON of one object, for serde_json as well; its id, channel and position are
//! those in the text; what a handler is given is the text, byte for byte; and written again by another program, it is accepted
//! again and says the same. Of a frame that is refused: the id that its answer carries is the one in the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use switchboard::model::json::{Tree, check};
use switchboard::protocol::{ClientFrame, MAX_FRAME, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value = serde_json::from_str::<Value>(text);
    let frame = match parse(text.to_owned()) {
        Ok(frame) => frame,
        Err(bad) => {
            if let (Some(id), Ok(value)) = (&bad.id, &value) {
                assert_eq!(value["id"], id.as_str());
            }
            return;
        }
    };
    assert!(text.len() <= MAX_FRAME);
    let value = value.expect("what is accepted is JSON");
    assert_eq!(check(text), Ok(()));
    assert_eq!(value["id"].as_str(), frame.id().map(|id| id.as_str()));
    let kind = value["type"].as_str().expect("a type");
    match &frame {
        ClientFrame::Auth { token, .. } => assert!(kind == "auth" && value["token"] == *token),
        ClientFrame::AuthRefresh { token, .. } => assert!(kind == "auth.refresh" && value["token"] == *token),
        ClientFrame::Subscribe { channel, since, .. } => {
            assert_eq!(kind, "subscribe");
            assert_eq!(value["channel"].as_str().and_then(|name| name.parse().ok()), Some(*channel));
            let Some(since) = since else {
                assert!(value["since"].is_null());
                return;
            };
            assert!(value["since"]["epoch"] == since.epoch && value["since"]["seq"] == since.seq);
        }
        ClientFrame::Unsubscribe { channel, .. } => {
            assert_eq!(kind, "unsubscribe");
            assert_eq!(value["channel"].as_str().and_then(|name| name.parse().ok()), Some(*channel));
        }
        ClientFrame::Ping { .. } => assert_eq!(kind, "ping"),
        ClientFrame::Event(event) => {
            assert_eq!(event.payload, text);
            assert_eq!(event.kind.as_str(), kind);
            let channel = value["channel"].as_str().map(|name| name.parse().expect("a channel's id"));
            assert_eq!(event.channel, channel);
        }
    }
    // Another program may write the same value in other words. Its numbers may be longer.
    let written = value.to_string();
    if written.len() <= MAX_FRAME && check(&written).is_ok() {
        let again = parse(written.clone()).unwrap_or_else(|bad| panic!("{:?}: {written}", bad.refusal));
        assert_eq!(again.id(), frame.id());
        assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&frame));
    }
    // The form in which requests are compared is one, however often it is read.
    let form = |text: &str| {
        let mut form = Vec::new();
        Tree::read(text).expect("it was checked").write(&mut |bytes| form.extend_from_slice(bytes));
        form
    };
    assert_eq!(form(text), form(&format!(" {text}\n")));
});
