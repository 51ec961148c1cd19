//! Positions in lists and channels that a client sends back: the query of a page, the link to another page, and `since`.
//!
//! It asserts that a page has 1 to 100 items; that a link leads to the value that it was made for, whatever that is; and that
//! a position which is accepted is the same when it is written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchboard::fuzzing::paging::{Asked, link, page};
use switchboard::protocol::Since;
use switchboard_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (uri, value, since) = (input.text(), input.text(), input.text());
    let asked = page(&uri);
    if let Some(asked) = &asked {
        assert!((1..=100).contains(&asked.limit), "{asked:?}");
    }
    let limit = u32::from(input.byte()) % 100 + 1;
    for path in [uri.as_str(), "/api/channels/"] {
        let Some(next) = link(path, limit, "cursor", &value).filter(|next| next.starts_with('/')) else { continue };
        let expected = Asked { limit, cursor: Some(value.clone()), before: None, after: None };
        assert_eq!(page(&next), Some(expected), "{next}");
    }
    let Ok(since) = since.parse::<Since>() else { return };
    assert!(!since.epoch.is_empty());
    assert_eq!(format!("{}:{}", since.epoch, since.seq).parse::<Since>().ok().as_ref(), Some(&since));
    let json = serde_json::json!({ "epoch": since.epoch, "seq": since.seq }).to_string();
    assert_eq!(serde_json::from_str::<Since>(&json).ok(), Some(since));
});
