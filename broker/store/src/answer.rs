//! The answer to a commit, whichever database stored it.
//!
//! Nothing here reads or writes: an adapter passes in what it found and what it numbered.

use std::collections::HashSet;

use super::{AppliedRead, Commit, Committed, Outcome, Receipt};
use switchboard_model::{Epoch, Message, MessageId};

/// The commit found under a request's key.
pub(super) struct Earlier {
    pub(super) receipt: Receipt,
    pub(super) digest: Option<Vec<u8>>,
}

impl Earlier {
    /// The first answer again if the request is the same, a conflict otherwise.
    pub(super) fn outcome(self, commit: &Commit) -> Outcome {
        let same = commit.request.as_ref().is_some_and(|(_, digest)| self.digest.as_deref() == Some(digest.as_slice()));
        if same { Outcome::Duplicate(self.receipt) } else { Outcome::IdConflict }
    }
}

/// What the database did with a commit.
pub(super) struct Applied {
    /// The channel's epoch.
    pub(super) epoch: Epoch,
    /// The channel's last `seq`, including the drafts.
    pub(super) last: u64,
    /// The sender's new cursor, if it moved.
    pub(super) cursor: Option<(MessageId, u64)>,
}

impl Applied {
    /// The result as the store reports it.
    pub(super) fn committed(self, commit: &Commit) -> Committed {
        let before = self.last.saturating_sub(commit.drafts.len() as u64);
        let messages: Vec<_> =
            (before + 1..).zip(&commit.drafts).map(|(seq, draft)| message(commit, seq, draft)).collect();
        let reads = self.cursor.into_iter().filter_map(|(message, seq)| {
            let mark = commit.reads.iter().find(|mark| mark.message == message)?;
            Some(AppliedRead { kind: mark.kind.clone(), message, seq, read_at: commit.at })
        });
        Committed {
            receipt: Receipt {
                message: messages.first().map(|first| first.id),
                epoch: self.epoch,
                seq: messages.first().map_or(self.last, |first| first.seq),
                created_at: commit.at,
            },
            reads: reads.collect(),
            messages,
        }
    }
}

fn message(commit: &Commit, seq: u64, (id, draft): &(MessageId, switchboard_model::Draft)) -> Message {
    Message {
        id: *id,
        channel: commit.channel,
        seq,
        kind: draft.kind.clone(),
        sender: commit.sender.clone(),
        content: draft.content.clone(),
        reply_to: draft.reply_to,
        attachments: draft.attachments.clone(),
        created_at: commit.at,
        edited_at: None,
        deleted_at: None,
        read_by: Vec::new(),
    }
}

/// The messages that must already be in the channel, without duplicates.
pub(super) fn named(commit: &Commit) -> Vec<MessageId> {
    let answered = commit.drafts.iter().filter_map(|(_, draft)| draft.reply_to);
    let mut named: Vec<_> = answered.chain(commit.reads.iter().map(|mark| mark.message)).collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// Whether no two commits have the same sender and key.
pub(super) fn has_distinct_keys(batch: &[Commit]) -> bool {
    let mut seen = HashSet::new();
    batch.iter().filter_map(|commit| Some((&commit.sender.id, &commit.request.as_ref()?.0))).all(|key| seen.insert(key))
}
