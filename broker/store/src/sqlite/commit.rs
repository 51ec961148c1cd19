//! Applies the durable effects of a batch, in the caller's transaction.
//!
//! This runs as the file's only writer, so whatever is found stays true until the end. All commits are judged before
//! anything is written, so an outcome other than `Done` has nothing to undo.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::Sqlite;
use super::keys;
use super::rows::Number;
use crate::answer::{self, Applied, Earlier};
use crate::changes::{Asked, Changes};
use crate::{Commit, CommitStore, Outcome, Receipt, StoreError};
use switchboard_model::{Epoch, MessageId, TenantSlug};

#[async_trait]
impl CommitStore for Sqlite {
    async fn commit(&self, tenant: &TenantSlug, batch: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
        let batch = batch.to_vec();
        self.write(tenant, move |db| commit(db, &batch)).await
    }

    /// A file has one writer.
    fn batches_at_once(&self) -> usize {
        1
    }
}

pub(super) fn commit(db: &Connection, batch: &[Commit]) -> Result<Vec<Outcome>> {
    debug_assert!(answer::has_distinct_keys(batch), "a key stands twice in a batch");
    let mut changes = None;
    if batch.iter().any(Commit::has_changes) {
        changes = Some(keys::look(db, &Asked::of(batch))?);
    }
    let judged: Vec<Verdict> = batch.iter().map(|commit| judge(db, commit, changes.as_mut())).collect::<Result<_>>()?;
    if let Some(changes) = &changes {
        keys::write(db, changes)?;
    }
    let applied = judged.into_iter().zip(batch).map(|(verdict, commit)| match verdict {
        Verdict::Good(epoch) => apply(db, commit, epoch),
        Verdict::Refused(outcome) => Ok(outcome),
    });
    applied.collect()
}

enum Verdict {
    /// To be applied, in a channel with this epoch.
    Good(Epoch),
    Refused(Outcome),
}

fn judge<'b>(db: &Connection, commit: &'b Commit, changes: Option<&mut Changes<'b>>) -> Result<Verdict> {
    let epoch = db
        .prepare_cached(
            "SELECT c.epoch FROM chat_channel c \
             JOIN channel_member cm ON cm.channel_id = c.id AND cm.user_id = ?2 WHERE c.id = ?1",
        )?
        .query_row(params![commit.channel, commit.sender.id], |row| row.get(0))
        .optional()?;
    let Some(epoch) = epoch else { return Ok(Verdict::Refused(Outcome::UnknownChannel)) };
    if let Some((key, _)) = &commit.request
        && let Some(earlier) = earlier(db, commit, key.as_str())?
    {
        return Ok(Verdict::Refused(earlier.outcome(commit)));
    }
    for named in answer::named(commit) {
        if seq(db, commit, named)?.is_none() {
            return Ok(Verdict::Refused(Outcome::UnknownMessage));
        }
    }
    // Last, because later commits are judged by what this one changes.
    if let Some(changes) = changes
        && let Some(refused) = changes.judge(commit)
    {
        return Ok(Verdict::Refused(refused));
    }
    Ok(Verdict::Good(epoch))
}

fn apply(db: &Connection, commit: &Commit, epoch: Epoch) -> Result<Outcome> {
    let last = store_drafts(db, commit)?;
    let cursor = move_cursor(db, commit)?;
    keys::remember(db, commit, last)?;
    Ok(Outcome::Done(Applied { epoch, last, cursor }.committed(commit)))
}

fn earlier(db: &Connection, commit: &Commit, key: &str) -> Result<Option<Earlier>> {
    let with_message = "SELECT m.id, m.seq, m.created_at, m.request_digest, c.epoch \
                        FROM chat_message m JOIN chat_channel c ON c.id = m.channel_id \
                        WHERE m.sender_id = ?1 AND m.client_id = ?2";
    let without_message = "SELECT NULL AS id, r.seq, r.created_at, r.request_digest, c.epoch \
                           FROM request_without_message r JOIN chat_channel c ON c.id = r.channel_id \
                           WHERE r.sender_id = ?1 AND r.client_id = ?2";
    let read = |row: &Row<'_>| {
        let receipt = Receipt {
            message: row.get("id")?,
            epoch: row.get("epoch")?,
            seq: row.get::<_, Number>("seq")?.0,
            created_at: row.get("created_at")?,
        };
        Ok(Earlier { receipt, digest: row.get("request_digest")? })
    };
    let found = db.prepare_cached(with_message)?.query_row(params![commit.sender.id, key], read).optional()?;
    if found.is_some() {
        return Ok(found);
    }
    db.prepare_cached(without_message)?.query_row(params![commit.sender.id, key], read).optional()
}

fn seq(db: &Connection, commit: &Commit, message: MessageId) -> Result<Option<u64>> {
    db.prepare_cached("SELECT seq FROM chat_message WHERE id = ?1 AND channel_id = ?2")?
        .query_row(params![message, commit.channel], |row| row.get::<_, Number>(0))
        .optional()
        .map(|found| found.map(|seq| seq.0))
}

/// Stores the drafts and returns the channel's last `seq`.
fn store_drafts(db: &Connection, commit: &Commit) -> Result<u64> {
    if commit.drafts.is_empty() {
        let sql = "SELECT seq FROM chat_channel WHERE id = ?1";
        return db.prepare_cached(sql)?.query_row([commit.channel], |row| row.get::<_, Number>(0)).map(|seq| seq.0);
    }
    let last = db
        .prepare_cached("UPDATE chat_channel SET seq = seq + ?2 WHERE id = ?1 RETURNING seq")?
        .query_row(params![commit.channel, Number(commit.drafts.len() as u64)], |row| row.get::<_, Number>(0))?
        .0;
    let mut insert = db.prepare_cached(
        "INSERT INTO chat_message (id, channel_id, seq, kind, sender_id, content, reply_to, attachments, \
                                   client_id, request_digest, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let mut request = commit.request.as_ref();
    for (seq, (id, draft)) in (last + 1 - commit.drafts.len() as u64..).zip(&commit.drafts) {
        let (key, digest) = request.take().map(|(key, digest)| (key.as_str(), digest.as_slice())).unzip();
        insert.execute(params![
            id,
            commit.channel,
            Number(seq),
            draft.kind,
            commit.sender.id,
            draft.content.get(),
            draft.reply_to,
            draft.attachments.get(),
            key,
            digest,
            commit.at,
        ])?;
    }
    Ok(last)
}

/// Moves the sender's cursor to the furthest message read, never backwards.
fn move_cursor(db: &Connection, commit: &Commit) -> Result<Option<(MessageId, u64)>> {
    let mut furthest = None;
    for mark in &commit.reads {
        if let Some(seq) = seq(db, commit, mark.message)?
            && furthest.is_none_or(|(_, so_far)| seq > so_far)
        {
            furthest = Some((mark.message, seq));
        }
    }
    let Some((message, seq)) = furthest else { return Ok(None) };
    let sql = "INSERT INTO message_read_status AS mark (channel_id, user_id, message_id, seq, read_at) \
               VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (channel_id, user_id) DO UPDATE \
                   SET message_id = excluded.message_id, seq = excluded.seq, read_at = excluded.read_at \
                   WHERE mark.seq < excluded.seq";
    let params = params![commit.channel, commit.sender.id, message, Number(seq), commit.at];
    Ok((db.prepare_cached(sql)?.execute(params)? == 1).then_some((message, seq)))
}
