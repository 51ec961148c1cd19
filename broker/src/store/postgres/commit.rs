//! The hot path: the durable effects of one event, in one statement and one round trip.
//!
//! A statement outside a transaction block is a transaction. It cannot be left half done by a caller that goes away,
//! holds the channel's row only while it runs, and either does everything or, through an empty `numbered`, nothing.
//!
//! What one snapshot cannot see, a unique index does: two requests with the same key at once both find no earlier one,
//! the second insert waits for the first, is refused and takes its number back; tried again, it finds the first.

use tokio_postgres::{Error, Row};

use super::connection::{Database, Param, unreadable, within};
use super::rows::Number;
use crate::model::{Kind, MessageId, TenantSlug};
use crate::store::answer::{self, Applied, Earlier};
use crate::store::{Commit, Outcome, Receipt, StoreError};

/// `$numbered` finds the channel's row, or no row when the commit must not be. Everything that writes reads from it,
/// hence comes after it.
///
/// $1 channel, $2 sender, $3 key, $4 digest, $5 messages that must be there, $6 how many they are, $7 messages read,
/// $8 time, $9 to $13 the drafts, a column an array, $14 how many they are.
macro_rules! commit {
    ($numbered:literal) => {
        concat!(
            "
WITH earlier AS (
    SELECT m.id, m.seq, m.created_at, m.request_digest, c.epoch
    FROM {t}.chat_message m JOIN {t}.chat_channel c ON c.id = m.channel_id
    WHERE m.sender_id = $2 AND m.client_id = $3
), seat AS (
    SELECT FROM {t}.channel_member WHERE channel_id = $1 AND user_id = $2
), named AS (
    SELECT id, seq FROM {t}.chat_message WHERE channel_id = $1 AND id = ANY ($5::uuid[])
), numbered AS (",
            $numbered,
            "), stored AS (
    INSERT INTO {t}.chat_message (id, channel_id, seq, kind, sender_id, content, reply_to, attachments,
                                  client_id, request_digest, created_at)
    SELECT d.id, $1, n.seq - $14 + d.place, d.kind, $2, d.content, d.reply_to, d.attachments,
           CASE d.place WHEN 1 THEN $3 END, CASE d.place WHEN 1 THEN $4::bytea END, $8
    FROM numbered n, unnest($9::uuid[], $10::text[], $11::text[], $12::uuid[], $13::text[])
        WITH ORDINALITY AS d (id, kind, content, reply_to, attachments, place)
), moved AS (
    INSERT INTO {t}.message_read_status AS mark (channel_id, user_id, message_id, seq, read_at)
    SELECT $1, $2, furthest.id, furthest.seq, $8
    FROM numbered, (SELECT id, seq FROM named WHERE id = ANY ($7::uuid[]) ORDER BY seq DESC LIMIT 1) AS furthest
    ON CONFLICT (channel_id, user_id) DO UPDATE
        SET message_id = excluded.message_id, seq = excluded.seq, read_at = excluded.read_at
        WHERE mark.seq < excluded.seq
    RETURNING message_id, seq
)
SELECT c.epoch AS channel, n.seq AS last, v.message_id AS read_message, v.seq AS read_seq,
       e.id, e.seq, e.created_at, e.request_digest, e.epoch
FROM (VALUES (1)) AS always (one)
LEFT JOIN {t}.chat_channel c ON c.id = $1 AND EXISTS (SELECT FROM seat)
LEFT JOIN earlier e ON true
LEFT JOIN numbered n ON true
LEFT JOIN moved v ON true"
        )
    };
}

/// Takes the next numbers, and with them the lock on the channel's row until the end of the statement.
const WITH_DRAFTS: &str = commit!(
    "UPDATE {t}.chat_channel SET seq = seq + $14
    WHERE id = $1 AND EXISTS (SELECT FROM seat) AND NOT EXISTS (SELECT FROM earlier) AND (SELECT count(*) FROM named) = $6
    RETURNING seq"
);

/// Locks nothing, so that many readers do not queue behind a writer.
const WITHOUT_DRAFTS: &str = commit!(
    "SELECT seq FROM {t}.chat_channel
    WHERE id = $1 AND EXISTS (SELECT FROM seat) AND NOT EXISTS (SELECT FROM earlier) AND (SELECT count(*) FROM named) = $6"
);

/// The index that keeps a sender's keys apart.
const REQUEST_INDEX: &str = "chat_message_request";

pub(super) async fn commit(database: &Database, tenant: &TenantSlug, commit: &Commit) -> Result<Outcome, StoreError> {
    let sql = within(tenant, if commit.drafts.is_empty() { WITHOUT_DRAFTS } else { WITH_DRAFTS });
    let named = answer::named(commit);
    let reads: Vec<MessageId> = commit.reads.iter().map(|mark| mark.message).collect();
    let (ids, drafts): (Vec<MessageId>, Vec<_>) = commit.drafts.iter().map(|(id, draft)| (*id, draft)).unzip();
    let kinds: Vec<&Kind> = drafts.iter().map(|draft| &draft.kind).collect();
    let contents: Vec<&str> = drafts.iter().map(|draft| draft.content.get()).collect();
    let answered: Vec<Option<MessageId>> = drafts.iter().map(|draft| draft.reply_to).collect();
    let attachments: Vec<&str> = drafts.iter().map(|draft| draft.attachments.get()).collect();
    let (key, digest) = match &commit.request {
        Some((key, digest)) => (Some(key), Some(digest.as_slice())),
        None => (None, None),
    };
    let (expected, count) = (Number(named.len() as u64), Number(ids.len() as u64));
    let params: [Param<'_>; 14] = [
        &commit.channel,
        &commit.sender.id,
        &key,
        &digest,
        &named,
        &expected,
        &reads,
        &commit.at,
        &ids,
        &kinds,
        &contents,
        &answered,
        &attachments,
        &count,
    ];
    let rows = database.bounded(async {
        let mut answer = database.attempt(&sql, &params).await;
        if answer.as_ref().is_err_and(|fault| fault.is_violation_of(REQUEST_INDEX)) {
            answer = database.attempt(&sql, &params).await;
        }
        match answer {
            Ok(rows) => Ok(rows),
            Err(fault) => Err(database.tenant_error(tenant, fault).await),
        }
    });
    match rows.await?.first() {
        Some(row) => outcome(row, commit).map_err(unreadable),
        None => Ok(Outcome::UnknownChannel),
    }
}

fn outcome(row: &Row, commit: &Commit) -> Result<Outcome, Error> {
    let Some(epoch) = row.try_get("channel")? else { return Ok(Outcome::UnknownChannel) };
    if let Some(first) = row.try_get("id")? {
        let receipt = Receipt {
            message: Some(first),
            epoch: row.try_get("epoch")?,
            seq: row.try_get::<_, Number>("seq")?.0,
            created_at: row.try_get("created_at")?,
        };
        return Ok(Earlier { receipt, digest: row.try_get("request_digest")? }.outcome(commit));
    }
    let Some(Number(last)) = row.try_get("last")? else { return Ok(Outcome::UnknownMessage) };
    let read_seq: Option<Number> = row.try_get("read_seq")?;
    let cursor = row.try_get::<_, Option<MessageId>>("read_message")?.zip(read_seq.map(|seq| seq.0));
    Ok(Outcome::Done(Applied { epoch, last, cursor }.committed(commit)))
}
