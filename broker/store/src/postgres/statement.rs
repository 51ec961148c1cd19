//! The statement that performs a batch of commits: its parameters, its SQL, and what its rows mean.
//!
//! Everything is looked up in the statement's snapshot and judged before anything is written, so a refused commit
//! writes nothing and uses up no `seq`. Two things the snapshot cannot know are handled separately:
//!
//! - Numbers come from the channels' rows as they are once locked, never from the snapshot.
//! - Two concurrent requests with the same key do not see each other. The second insert waits for the first and is
//!   refused by the unique index, and its whole batch with it. Tried again, it finds the first.
//!
//! Batches of other nodes may touch the same channels, cursors and keys.
//!
//! Invariant: rows are locked in one order (channels by id, then messages by sender and key, then cursors by channel
//! and sender), so two batches never wait for each other in both directions.
//!
//! Nothing here executes the statement. Start with [`Columns::statement`] and `outcome`.

use tokio_postgres::{Error, Row};

use super::connection::{Fault, Param};
use super::rows::Number;
use crate::answer::{self, Applied, Earlier};
use crate::{Commit, Outcome, Receipt};
use switchboard_model::{ChannelId, Kind, MessageId, Timestamp, UserId};

/// The statement's text. `$named` and the parts after it are needed only by commits with read marks or replies.
///
/// The parameters are three tables, one array for each column: $1 to $7 the commits, $8 to $14 their drafts, $15 to $18
/// the messages that they name. A commit is identified by its place in the batch, from 1.
///
/// `LIMIT 1` in the look-ups keeps each of them a single index probe, even in a plan made while the tables were empty.
/// `placed` numbers the drafts within the batch; `locked` and `numbered` say where in the channel that begins. The row
/// lock is the one that an update of `seq` takes, so adding a member does not wait for it.
macro_rules! statement {
    (
        named: $named:literal,
        all_found: $all_found:literal,
        moved: $moved:literal,
        cursor: $cursor:literal,
        join_cursor: $join_cursor:literal $(,)?
    ) => {
        concat!(
            "
WITH found AS MATERIALIZED (
    SELECT b.*, c.epoch, c.seq,
           e.id AS e_id, e.seq AS e_seq, e.created_at AS e_created_at, e.request_digest AS e_digest, e.epoch AS e_epoch
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[], $6::bigint[], $7::bigint[])
        WITH ORDINALITY AS b (channel, sender, key, digest, at, names, drafts, place)
    LEFT JOIN LATERAL (
        SELECT c.epoch, c.seq FROM {t}.channel_member own JOIN {t}.chat_channel c ON c.id = own.channel_id
        WHERE own.channel_id = b.channel AND own.user_id = b.sender LIMIT 1
    ) AS c ON true
    LEFT JOIN LATERAL (
        (SELECT m.id, m.seq, m.created_at, m.request_digest, c.epoch
         FROM {t}.chat_message m JOIN {t}.chat_channel c ON c.id = m.channel_id
         WHERE m.sender_id = b.sender AND m.client_id = b.key LIMIT 1)
        UNION ALL
        (SELECT NULL, r.seq, r.created_at, r.request_digest, c.epoch
         FROM {t}.request_without_message r JOIN {t}.chat_channel c ON c.id = r.channel_id
         WHERE r.sender_id = b.sender AND r.client_id = b.key LIMIT 1)
        LIMIT 1
    ) AS e ON true
)",
            $named,
            ", judged AS MATERIALIZED (
    SELECT f.*, f.epoch IS NOT NULL AND f.e_epoch IS NULL",
            $all_found,
            " AS good FROM found f
), placed AS MATERIALIZED (
    SELECT j.*, (sum(drafts) FILTER (WHERE good) OVER (PARTITION BY channel ORDER BY place))::bigint AS upto
    FROM judged j
), locked AS MATERIALIZED (
    SELECT c.id, w.drafts
    FROM (SELECT channel, sum(drafts)::bigint AS drafts FROM placed WHERE good AND drafts > 0 GROUP BY channel) AS w
    JOIN {t}.chat_channel c ON c.id = w.channel
    ORDER BY c.id FOR NO KEY UPDATE OF c
), numbered AS (
    UPDATE {t}.chat_channel c SET seq = c.seq + l.drafts FROM locked l WHERE c.id = l.id
    RETURNING c.id, c.seq - l.drafts AS before
), stored AS (
    INSERT INTO {t}.chat_message (id, channel_id, seq, kind, sender_id, content, reply_to, attachments,
                                  client_id, request_digest, created_at)
    SELECT d.id, p.channel, n.before + p.upto - p.drafts + d.nth, d.kind, p.sender, d.content, d.reply_to,
           d.attachments, CASE d.nth WHEN 1 THEN p.key END, CASE d.nth WHEN 1 THEN p.digest END, p.at
    FROM unnest($8::bigint[], $9::bigint[], $10::uuid[], $11::text[], $12::text[], $13::uuid[], $14::text[])
        AS d (place, nth, id, kind, content, reply_to, attachments)
    JOIN placed p ON p.place = d.place AND p.good
    JOIN numbered n ON n.id = p.channel
    ORDER BY p.sender, p.key
    RETURNING 1
)",
            $moved,
            "
SELECT p.place, p.epoch, p.good, CASE WHEN p.drafts > 0 THEN n.before + p.upto ELSE p.seq END AS last,
       p.e_id, p.e_seq, p.e_created_at, p.e_digest, p.e_epoch",
            $cursor,
            "
FROM placed p
LEFT JOIN numbered n ON n.id = p.channel",
            $join_cursor
        )
    };
}

/// For a batch whose commits name no message. Setting up the rest would cost it a quarter more.
const SAYING: &str = statement!(named: "", all_found: "", moved: "", cursor: "", join_cursor: "");

const COMMIT: &str = statement!(
    named: ", named AS MATERIALIZED (
    SELECT n.place, n.is_read, m.id, m.seq
    FROM unnest($15::bigint[], $16::uuid[], $17::uuid[], $18::boolean[]) AS n (place, channel, id, is_read)
    JOIN LATERAL (
        SELECT id, channel_id, seq FROM {t}.chat_message WHERE id = n.id LIMIT 1
    ) AS m ON m.channel_id = n.channel
)",
    all_found: " AND (f.names = 0 OR f.names = (SELECT count(*) FROM named n WHERE n.place = f.place))",
    // `count(*) >= 0` is always true: reading `stored` locks cursors after messages, which keeps the lock order.
    moved: ", moved AS (
    INSERT INTO {t}.message_read_status AS mark (channel_id, user_id, message_id, seq, read_at)
    SELECT DISTINCT ON (p.channel, p.sender) p.channel, p.sender, n.id, n.seq, p.at
    FROM named n JOIN placed p ON p.place = n.place AND p.good
    WHERE n.is_read AND (SELECT count(*) FROM stored) >= 0
    ORDER BY p.channel, p.sender, n.seq DESC
    ON CONFLICT (channel_id, user_id) DO UPDATE
        SET message_id = excluded.message_id, seq = excluded.seq, read_at = excluded.read_at
        WHERE mark.seq < excluded.seq
    RETURNING channel_id, user_id, message_id, seq
)",
    cursor: ", v.message_id AS read_message, v.seq AS read_seq",
    join_cursor: " LEFT JOIN moved v ON v.channel_id = p.channel AND v.user_id = p.sender",
);

/// Parameters that [`SAYING`] takes.
const SAYING_PARAMS: usize = 14;

/// The unique index on a sender's request keys.
const REQUEST_INDEX: &str = "chat_message_request";

/// How often a batch is tried. Each further attempt requires another batch that committed meanwhile with a key of this
/// one that was new.
pub(super) const ATTEMPTS: usize = 4;

/// Whether another batch interfered that is done by now. The lock order rules out deadlocks between batches, but
/// another program on the database may cause one.
pub(super) fn lost_to_another(fault: &Fault) -> bool {
    fault.is_violation_of(REQUEST_INDEX) || fault.code() == Some("40P01")
}

/// A batch as columns of parameters.
#[derive(Default)]
pub(super) struct Columns<'b> {
    channels: Vec<ChannelId>,
    senders: Vec<&'b UserId>,
    keys: Vec<Option<&'b str>>,
    digests: Vec<Option<&'b [u8]>>,
    times: Vec<Timestamp>,
    names: Vec<Number>,
    drafts: Vec<Number>,
    named_by: Vec<Number>,
    named_in: Vec<ChannelId>,
    named: Vec<MessageId>,
    named_is_read: Vec<bool>,
    draft_of: Vec<Number>,
    draft_nth: Vec<Number>,
    ids: Vec<MessageId>,
    kinds: Vec<&'b Kind>,
    contents: Vec<&'b str>,
    answered: Vec<Option<MessageId>>,
    attachments: Vec<&'b str>,
}

impl<'b> Columns<'b> {
    pub(super) fn of(batch: &[&'b Commit]) -> Self {
        let mut columns = Self::default();
        for (place, &commit) in (1..).map(Number).zip(batch) {
            let named = answer::named(commit);
            columns.channels.push(commit.channel);
            columns.senders.push(&commit.sender.id);
            let (key, digest) = commit.request.as_ref().map(|(key, digest)| (key.as_str(), digest.as_slice())).unzip();
            columns.keys.push(key);
            columns.digests.push(digest);
            columns.times.push(commit.at);
            columns.names.push(Number(named.len() as u64));
            columns.drafts.push(Number(commit.drafts.len() as u64));
            for message in named {
                columns.named_by.push(place);
                columns.named_in.push(commit.channel);
                columns.named.push(message);
                columns.named_is_read.push(commit.reads.iter().any(|mark| mark.message == message));
            }
            for (nth, (id, draft)) in (1..).map(Number).zip(&commit.drafts) {
                columns.draft_of.push(place);
                columns.draft_nth.push(nth);
                columns.ids.push(*id);
                columns.kinds.push(&draft.kind);
                columns.contents.push(draft.content.get());
                columns.answered.push(draft.reply_to);
                columns.attachments.push(draft.attachments.get());
            }
        }
        columns
    }

    /// The statement for this batch, and the parameters that it takes.
    pub(super) fn statement<'p>(&self, params: &'p [Param<'p>]) -> (&'static str, &'p [Param<'p>]) {
        if self.named.is_empty() { (SAYING, &params[..SAYING_PARAMS]) } else { (COMMIT, params) }
    }

    pub(super) fn params(&self) -> [Param<'_>; 18] {
        [
            &self.channels,
            &self.senders,
            &self.keys,
            &self.digests,
            &self.times,
            &self.names,
            &self.drafts,
            &self.draft_of,
            &self.draft_nth,
            &self.ids,
            &self.kinds,
            &self.contents,
            &self.answered,
            &self.attachments,
            &self.named_by,
            &self.named_in,
            &self.named,
            &self.named_is_read,
        ]
    }
}

/// One outcome for each commit, in batch order. The rows come in any order.
pub(super) fn outcomes(rows: &[Row], batch: &[&Commit]) -> Result<Vec<Outcome>, Error> {
    let mut outcomes = vec![Outcome::UnknownChannel; batch.len()];
    for row in rows {
        let place = row.try_get::<_, Number>("place")?.0;
        let at = usize::try_from(place - 1).expect("a place in the batch");
        outcomes[at] = outcome(row, batch[at])?;
    }
    Ok(outcomes)
}

fn outcome(row: &Row, commit: &Commit) -> Result<Outcome, Error> {
    let Some(epoch) = row.try_get("epoch")? else { return Ok(Outcome::UnknownChannel) };
    if let Some(first) = row.try_get("e_epoch")? {
        let receipt = Receipt {
            message: row.try_get("e_id")?,
            epoch: first,
            seq: row.try_get::<_, Number>("e_seq")?.0,
            created_at: row.try_get("e_created_at")?,
        };
        return Ok(Earlier { receipt, digest: row.try_get("e_digest")? }.outcome(commit));
    }
    if !row.try_get("good")? {
        return Ok(Outcome::UnknownMessage);
    }
    let last = row.try_get::<_, Number>("last")?.0;
    let mut cursor = None;
    if !commit.reads.is_empty() {
        let read_seq: Option<Number> = row.try_get("read_seq")?;
        cursor = row.try_get::<_, Option<MessageId>>("read_message")?.zip(read_seq.map(|seq| seq.0));
    }
    Ok(Outcome::Done(Applied { epoch, last, cursor }.committed(commit)))
}
