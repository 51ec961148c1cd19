//! One at a time for each channel, whatever goes on in the others.
//!
//! A channel has an entry while somebody holds its turn or waits for it, and no longer. Nothing here does I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::MutexGuard as Turn;

use crate::model::ChannelKey;

/// The channels in which somebody is at work.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<ChannelKey, Entry>>);

#[derive(Default)]
struct Entry {
    /// Places in the line, that of the one whose turn it is counted in.
    places: usize,
    line: Arc<tokio::sync::Mutex<()>>,
}

impl Turns {
    /// A place in a channel's line. [`Place::turn`] waits for the turn.
    pub(super) fn line_up(&self, channel: &ChannelKey) -> Place<'_> {
        let mut channels = self.channels();
        let entry = channels.entry(channel.clone()).or_default();
        entry.places += 1;
        Place { turns: self, channel: channel.clone(), line: Arc::clone(&entry.line) }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelKey, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a channel's line, given up when it is dropped.
pub(super) struct Place<'t> {
    turns: &'t Turns,
    channel: ChannelKey,
    line: Arc<tokio::sync::Mutex<()>>,
}

impl Place<'_> {
    /// Waits for those who came before. The turn lasts until the guard is dropped.
    pub(super) async fn turn(&self) -> Turn<'_, ()> {
        self.line.lock().await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut channels = self.turns.channels();
        if let Some(entry) = channels.get_mut(&self.channel) {
            entry.places -= 1;
            if entry.places == 0 {
                channels.remove(&self.channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::model::ChannelId;

    fn channel(number: u128) -> ChannelKey {
        ChannelKey { tenant: "acme".parse().unwrap(), channel: ChannelId(Uuid::from_u128(number)) }
    }

    #[test]
    fn channels_do_not_wait_for_one_another_and_leave_nothing_behind() {
        let turns = Turns::default();
        let (first, second, other) =
            (turns.line_up(&channel(1)), turns.line_up(&channel(1)), turns.line_up(&channel(2)));
        let turn = first.turn().now_or_never().expect("nobody is before it");
        assert!(second.turn().now_or_never().is_none());
        drop(other.turn().now_or_never().expect("the other channel is another line"));
        drop(turn);
        drop(first);
        drop(second.turn().now_or_never().expect("the first one is done"));
        drop((second, other));
        assert!(turns.channels().is_empty());
    }
}
