//! Messages between nodes, as anyone who can write to Redis may send them.
//!
//! It asserts that no bytes open which were not sealed with the key; that a sealed message opens as it was, for its channel and
//! for a minute; that it does not open with a bit changed, a byte more or less, or for another channel or key; and that what the
//! relay reads of a content is the same when it is written and read again.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use switchboard::bus::redis::{BusKeys, Unopened};
use switchboard::fuzzing::envelope::{self, Opened};
use switchboard::model::Timestamp;
use switchboard_fuzz::Input;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const FRESH_MS: i64 = 60_000;
const HEAD: usize = 41;

/// Nobody who makes an input has this key.
static KEYS: LazyLock<BusKeys> = LazyLock::new(|| BusKeys::new(b"0123456789abcdef0123456789abcdef", Some(b"previous")));
static OTHER: LazyLock<BusKeys> = LazyLock::new(|| BusKeys::new(b"0123456789abcdef0123456789abcdeg", None));

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let (flip, late) = (usize::from(input.byte()) << 8 | usize::from(input.byte()), input.take(8));
    let late = late.try_into().map_or(0, i64::from_be_bytes);
    let (channel, other) = (input.text(), input.text());
    let content = input.rest();

    assert_eq!(open(&KEYS, &channel, NOW, content), Err(Unopened::Forged));

    let sealed = KEYS.seal(&[7; 16], &channel, NOW, content);
    assert_eq!(open(&KEYS, &channel, NOW, &sealed), Ok(content));
    assert_eq!(open(&OTHER, &channel, NOW, &sealed), Err(Unopened::Forged));
    assert_eq!(open(&KEYS, &other, NOW, &sealed).is_ok(), other == channel);
    let now = Timestamp(NOW.0.saturating_add(late));
    assert_eq!(open(&KEYS, &channel, now, &sealed).is_ok(), late.unsigned_abs() <= FRESH_MS.unsigned_abs());
    let mut forged = sealed.clone();
    forged[flip / 8 % sealed.len()] ^= 1 << (flip % 8);
    assert_eq!(open(&KEYS, &channel, NOW, &forged), Err(Unopened::Forged));
    assert_eq!(open(&KEYS, &channel, NOW, &sealed[..flip % sealed.len()]), Err(Unopened::Forged));
    forged.clone_from(&sealed);
    forged.push(0);
    assert_eq!(open(&KEYS, &channel, NOW, &forged), Err(Unopened::Forged));
    if sealed.len() > HEAD {
        // What moves from the content to the channel is no longer the same message.
        let moved = [&sealed[..HEAD], &sealed[HEAD + 1..]].concat();
        let longer = format!("{channel}{}", char::from(sealed[HEAD]));
        assert_eq!(open(&KEYS, &longer, NOW, &moved), Err(Unopened::Forged));
    }

    match envelope::open(content) {
        None => {}
        Some(Opened::Revoke(user)) => {
            let again = envelope::open(&envelope::revoke(&user));
            assert!(matches!(again, Some(Opened::Revoke(again)) if again == user));
        }
        Some(Opened::Frames(deliveries)) => {
            let total: usize = deliveries.iter().map(|delivery| delivery.frame.payload().len()).sum();
            assert!(total <= content.len(), "frames are not made of more than what came");
            let written = envelope::frames(&deliveries);
            let Some(Opened::Frames(again)) = envelope::open(&written) else { panic!("it was written by us") };
            assert_eq!(again.len(), deliveries.len());
            for (again, delivery) in again.iter().zip(&deliveries) {
                assert_eq!((again.seq, again.class), (delivery.seq, delivery.class));
                assert_eq!(again.audience, delivery.audience);
                assert_eq!(again.frame.as_bytes(), delivery.frame.as_bytes());
                assert!(std::str::from_utf8(&delivery.frame.payload()).is_ok());
            }
        }
    }
});

/// The content of a message.
fn open<'m>(keys: &BusKeys, channel: &str, now: Timestamp, message: &'m [u8]) -> Result<&'m [u8], Unopened> {
    keys.open(channel, now, message).map(|at| &message[at..])
}
