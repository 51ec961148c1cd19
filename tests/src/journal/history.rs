//! What is stored in a channel, as any member reads it.

use serde_json::Value;

use crate::{Channel, Member, list, number, text};

/// A message as it was stored or heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFrame {
    /// Its number in the channel.
    pub seq: u64,
    /// Its id.
    pub message: String,
    /// Its text.
    pub text: String,
}

impl MessageFrame {
    /// From a message as frames and pages show it.
    ///
    /// # Panics
    /// When it is none.
    pub fn new(message: &Value) -> Self {
        Self {
            seq: number(message, "seq"),
            message: text(message, "id").to_owned(),
            text: text(message, "content").to_owned(),
        }
    }
}

/// Everything that is stored, in the order of the pages.
///
/// # Panics
/// When a page is refused.
pub async fn history(member: &Member, channel: &Channel) -> Vec<MessageFrame> {
    let mut all: Vec<MessageFrame> = Vec::new();
    loop {
        let after = all.last().map_or(0, |said| said.seq);
        let (status, page) = member.get(&page_after(channel, after)).await;
        assert_eq!(status, 200, "{page}");
        let results = list(&page, "results");
        if results.is_empty() {
            return all;
        }
        all.extend(results.iter().map(MessageFrame::new));
    }
}

/// The path of the page after a number.
pub(super) fn page_after(channel: &Channel, seq: u64) -> String {
    channel.path(&format!("messages/?after={seq}&limit=100"))
}
