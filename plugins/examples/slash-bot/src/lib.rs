//! A bot: answers `/roll 2d6` and `/help` in a channel.
//!
//! ```text
//! client   {"type":"chat.message","id":"c1","message":"/roll 2d6"}
//! all      {"type":"chat.message","channel":"…","seq":42,"message":{"content":"/roll 2d6",…}}
//! all      {"type":"bot.reply","channel":"…","seq":43,"message":{"content":"2 + 5 = 7","reply_to":"…",…}}
//! ```
//!
//! It handles nothing and watches `chat.message`, whichever plugin handles that. So it never delays a message: the sender
//! has the ack before the broker calls the bot. If a call fails, the broker calls the bot again, and stores one answer
//! however often it calls.

use switchboard_plugin_sdk::prelude::*;

/// Maximum number of dice.
pub const MAX_DICE: u32 = 20;
/// Maximum number of sides of a die.
pub const MAX_SIDES: u32 = 1000;

const HELP: &str = "/roll 2d6 rolls two dice with six sides; /help says this";

/// The bot. It keeps nothing from one message to the next.
#[derive(Debug, Default)]
pub struct SlashBot;

impl Handler for SlashBot {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KINDS: &'static [Kind] = &[];
    const WATCHES: &'static [&'static str] = &["chat.message"];

    // Never called: the bot handles no kind.
    fn handle(&mut self, _event: Event, _host: &impl Host) -> Outcome {
        Ok(Vec::new())
    }

    fn stored(&mut self, message: Message, context: Context, _host: &impl Host) -> Outcome {
        let Some(said) = message.content::<String>() else { return Ok(Vec::new()) };
        let mut words = said.split_whitespace();
        let answer = match words.next() {
            Some("/help") => HELP.to_owned(),
            Some("/roll") => roll(words.next().unwrap_or("1d6"), &context.event_id),
            _ => return Ok(Vec::new()),
        };
        // As with everything that a plugin stores, the answer is in the name of the member who asked; its kind tells clients
        // that it comes from the bot.
        Ok(vec![Effect::store(Draft::new("bot.reply", &answer)?.reply_to(message.id))])
    }
}

export!(SlashBot);

/// Rolls dice such as `2d6`. The id of the message determines the result, so a retry rolls the same.
fn roll(dice: &str, seed: &str) -> String {
    let parts = dice.split_once('d').and_then(|(dice, sides)| Some((dice.parse().ok()?, sides.parse().ok()?)));
    let Some((dice @ 1..=MAX_DICE, sides @ 1..=MAX_SIDES)) = parts else {
        return format!("dice are written like 2d6: 1 to {MAX_DICE} of them with 1 to {MAX_SIDES} sides");
    };
    let rolled: Vec<u32> = (0..dice).map(|die| 1 + spread(seed, die) % sides).collect();
    let shown: Vec<String> = rolled.iter().map(u32::to_string).collect();
    match shown.as_slice() {
        [one] => one.clone(),
        all => format!("{} = {}", all.join(" + "), rolled.iter().sum::<u32>()),
    }
}

/// FNV-1a of a text and a number, with the upper half folded in: even enough for dice, but not for secrets.
fn spread(text: &str, number: u32) -> u32 {
    let bytes = text.bytes().chain(number.to_le_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    ((hash >> 32) ^ (hash & 0xffff_ffff)) as u32
}

#[cfg(test)]
mod tests {
    use switchboard_plugin_sdk::mock::{self, MockHost};

    use super::*;

    fn hear(seq: u64, content: serde_json::Value) -> Outcome {
        let message = mock::message(seq, "alice", &content);
        let context = mock::context_of(&message);
        SlashBot.stored(message, context, &MockHost::new())
    }

    fn reply(seq: u64, text: &str) -> Outcome {
        let draft = Draft::new("bot.reply", text).unwrap().reply_to(format!("message-{seq}"));
        Ok(vec![Effect::store(draft)])
    }

    #[test]
    fn help_is_given_as_an_answer() {
        assert_eq!(hear(1, json!("/help me")), reply(1, HELP));
    }

    #[test]
    fn what_is_no_command_is_left_alone() {
        for said in [json!("hi"), json!("please /help"), json!("/rolls"), json!(""), json!({ "a": 1 }), json!(null)] {
            assert_eq!(hear(1, said.clone()), Ok(vec![]), "{said}");
        }
    }

    #[test]
    fn another_try_rolls_the_same_and_another_message_does_not() {
        assert_eq!(hear(1, json!("/roll 9d100")), hear(1, json!("/roll 9d100")));
        let text = |seq| roll("9d100", &format!("message-{seq}"));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn all_sides_come_up() {
        let rolled: std::collections::BTreeSet<String> = (0..200).map(|seq| roll("1d6", &seq.to_string())).collect();
        assert_eq!(rolled.into_iter().collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6"]);
    }

    #[test]
    fn dice_that_nobody_has_are_explained() {
        for bad in ["0d6", "21d6", "2d0", "2d1001", "d6", "2d", "2x6", "-1d6", "99999999999d6"] {
            assert!(roll(bad, "x").starts_with("dice are written like 2d6"), "{bad}");
        }
    }
}
