//! What `tests/fuzz` calls of recordings: from a live event to its line, and back.

use switchboard_model::{ChannelKey, Event, Message};

use super::recorded::Recorded;

/// The recorded form of a live event.
pub fn of(channel: &ChannelKey, event: &Event, message: Option<&Message>) -> Recorded {
    Recorded::of(channel, event, message)
}

/// The live form of a recorded event, by its position in the file.
pub fn event(recorded: &Recorded, index: usize) -> (ChannelKey, Event, Option<Message>) {
    recorded.event(index)
}
