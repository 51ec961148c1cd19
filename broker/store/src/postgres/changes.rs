//! Commits that change keys and messages that already exist: a transaction around the statement of all commits.
//!
//! Such a commit is judged by what it finds, so that must not change until it is done. The transaction takes three
//! round trips: lock and look up, the statement, write. First the plugin's usage row is locked, which serializes
//! writers of one plugin's keys and keeps its counts right; then the messages to be changed. The commits are judged in
//! their order, refused ones are left out of the statement, and the changes of the others are written.
//!
//! Nothing here judges by itself ([`Changes`] does), and a batch is never partly applied: any failure rolls the whole
//! transaction back.
//!
//! Invariant: locks are taken in one order: plugins by name, messages by id, then those of the statement, then requests
//! by sender and key. Two batches therefore never wait for each other in both directions.
//!
//! Start with `commit` and `judge`.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::connection::{Block, Database, Fault, Param, within};
use super::rows::Number;
use super::statement::{ATTEMPTS, Columns, lost_to_another, outcomes};
use crate::answer::{self, Earlier};
use crate::changes::{Asked, Changes, Held, SWEPT, Usage, lone_request};
use crate::{Commit, Outcome, Receipt, StoreError};
use switchboard_model::{ChannelId, MessageId, PluginName, TenantSlug, Timestamp, UserId};

/// Gives every plugin a usage row for [`LOCK`] to lock.
const ENTER: &str = "INSERT INTO {t}.plugin_usage (plugin) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";

/// `ORDER BY` fixes the order in which the rows are locked.
const LOCK: &str = "
SELECT u.plugin, u.keys, u.bytes, u.version
FROM {t}.plugin_usage u WHERE u.plugin = ANY ($1::text[])
ORDER BY u.plugin FOR NO KEY UPDATE";

/// Rows are addressed by `ctid`. Addressed by key, a plan made while the table was empty would scan all keys of the
/// plugin for each. Nobody else moves these rows, because the plugin's usage row is locked.
const SWEEP: &str = "
DELETE FROM {t}.plugin_key k
WHERE k.ctid = ANY (ARRAY(
    SELECT ended.ctid FROM unnest($1::text[]) AS p (plugin), LATERAL (
        SELECT e.ctid FROM {t}.plugin_key e
        WHERE e.plugin = p.plugin AND e.expires_at <= $2 ORDER BY e.expires_at LIMIT $3
    ) AS ended
))
RETURNING k.plugin, (length(k.key) + length(k.value))::bigint AS bytes";

/// `SKIP LOCKED` leaves rows to another batch that is already deleting them.
const FORGET: &str = "
DELETE FROM {t}.request_without_message r
WHERE r.ctid = ANY (ARRAY(
    SELECT old.ctid FROM {t}.request_without_message old
    WHERE old.created_at < $1 ORDER BY old.created_at LIMIT $2 FOR UPDATE SKIP LOCKED
))";

/// Keys are identified by their place in the parameters, from 1.
const KEYS: &str = "
SELECT a.place, k.version, (length(k.key) + length(k.value))::bigint AS bytes, k.expires_at
FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS a (plugin, key, place)
JOIN {t}.plugin_key k ON k.plugin = a.plugin AND k.key = a.key";

/// Locked in the order of their ids. A deleted message is not found.
const MESSAGES: &str = "
SELECT m.id, m.channel_id FROM {t}.chat_message m
WHERE m.id = ANY ($1::uuid[]) AND m.deleted_at IS NULL
ORDER BY m.id FOR NO KEY UPDATE";

/// Not locked: a message's row stays and keeps its channel, even when the message is deleted.
const NAMED: &str = "SELECT m.id, m.channel_id FROM {t}.chat_message m WHERE m.id = ANY ($1::uuid[])";

/// Must be known before versions are compared: a request that was already applied has itself changed the keys.
const FOUND: &str = "
SELECT b.place, c.epoch, e.id AS e_id, e.seq AS e_seq, e.created_at AS e_created_at, e.request_digest AS e_digest,
       e.epoch AS e_epoch
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS b (channel, sender, key, place)
LEFT JOIN LATERAL (
    SELECT c.epoch FROM {t}.channel_member own JOIN {t}.chat_channel c ON c.id = own.channel_id
    WHERE own.channel_id = b.channel AND own.user_id = b.sender LIMIT 1
) AS c ON true
LEFT JOIN LATERAL (
    (SELECT m.id, m.seq, m.created_at, m.request_digest, c.epoch
     FROM {t}.chat_message m JOIN {t}.chat_channel c ON c.id = m.channel_id
     WHERE m.sender_id = b.sender AND m.client_id = b.key LIMIT 1)
    UNION ALL
    (SELECT NULL::uuid, r.seq, r.created_at, r.request_digest, c.epoch
     FROM {t}.request_without_message r JOIN {t}.chat_channel c ON c.id = r.channel_id
     WHERE r.sender_id = b.sender AND r.client_id = b.key LIMIT 1)
    LIMIT 1
) AS e ON true";

/// $1 to $5 are keys to put, $6 and $7 keys to delete, $8 to $11 the usage of plugins afterwards, $12 to $15 messages,
/// $16 to $21 requests that no message remembers.
const WRITE: &str = "
WITH put AS (
    INSERT INTO {t}.plugin_key AS k (plugin, key, value, version, expires_at)
    SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bigint[], $5::timestamptz[])
    ON CONFLICT (plugin, key) DO UPDATE
        SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at
), taken AS (
    DELETE FROM {t}.plugin_key k USING unnest($6::text[], $7::bytea[]) AS g (plugin, key)
    WHERE k.plugin = g.plugin AND k.key = g.key
), counted AS (
    UPDATE {t}.plugin_usage u SET keys = n.keys, bytes = n.bytes, version = n.version
    FROM unnest($8::text[], $9::bigint[], $10::bigint[], $11::bigint[]) AS n (plugin, keys, bytes, version)
    WHERE u.plugin = n.plugin
), amended AS (
    UPDATE {t}.chat_message m
    SET content = a.content, edited_at = coalesce(a.edited_at, m.edited_at), deleted_at = a.deleted_at,
        attachments = CASE WHEN a.deleted_at IS NULL THEN m.attachments ELSE '[]' END
    FROM unnest($12::uuid[], $13::text[], $14::timestamptz[], $15::timestamptz[])
        AS a (id, content, edited_at, deleted_at)
    WHERE m.id = a.id
)
INSERT INTO {t}.request_without_message (sender_id, client_id, request_digest, channel_id, seq, created_at)
SELECT * FROM unnest($16::text[], $17::text[], $18::bytea[], $19::uuid[], $20::bigint[], $21::timestamptz[])
    AS r (sender, client, digest, channel, seq, at)
ORDER BY r.sender, r.client";

/// The unique index on the keys of such requests.
const REQUEST_INDEX: &str = "request_without_message_pkey";

pub(super) async fn commit(
    database: &Database,
    tenant: &TenantSlug,
    batch: &[Commit],
) -> Result<Vec<Outcome>, StoreError> {
    database
        .bounded(Some(tenant), async {
            for _ in 0..ATTEMPTS {
                let block = database.block().await.map_err(|fault| database.error(fault))?;
                match attempt(&block, database, tenant, batch).await {
                    Ok(Some(outcomes)) => {
                        block.end();
                        return Ok(outcomes);
                    }
                    Ok(None) => block.undo().await,
                    Err(fault) => {
                        block.undo().await;
                        if !lost_to_another(&fault) && !fault.is_violation_of(REQUEST_INDEX) {
                            return Err(database.tenant_error(tenant, fault).await);
                        }
                    }
                }
            }
            Err(StoreError::Contended)
        })
        .await
}

/// `None`: the statement found something other than what was judged, because another batch came in between.
async fn attempt(
    block: &Block,
    database: &Database,
    tenant: &TenantSlug,
    batch: &[Commit],
) -> Result<Option<Vec<Outcome>>, Fault> {
    let (refused, changes) = judge(block, database, tenant, batch).await?;
    let rest: Vec<&Commit> =
        batch.iter().zip(&refused).filter(|(_, refused)| refused.is_none()).map(|(commit, _)| commit).collect();
    let mut done = Vec::new();
    if !rest.is_empty() {
        let columns = Columns::of(&rest);
        let params = columns.params();
        let (template, params) = columns.statement(&params);
        let [rows] = block.run([(&within(tenant, template), params)]).await?;
        done = outcomes(&rows, &rest)?;
    }
    let stands = |(commit, outcome): (&&Commit, &Outcome)| !commit.has_changes() || matches!(outcome, Outcome::Done(_));
    if !rest.iter().zip(&done).all(stands) {
        return Ok(None);
    }
    write(block, tenant, &changes, rest.iter().copied().zip(&done)).await?;
    let mut done = done.into_iter();
    let outcomes = refused.into_iter().map(|refused| refused.or_else(|| done.next()));
    Ok(Some(outcomes.map(|outcome| outcome.expect("an outcome for each that was not refused")).collect()))
}

/// Locks and looks everything up, and decides which commits are refused and why.
async fn judge<'b>(
    block: &Block,
    database: &Database,
    tenant: &TenantSlug,
    batch: &'b [Commit],
) -> Result<(Vec<Option<Outcome>>, Changes<'b>), Fault> {
    let asked = Asked::of(batch);
    let (plugins, keys): (Vec<&PluginName>, Vec<&[u8]>) =
        asked.keys.iter().map(|(plugin, key)| (*plugin, key.as_bytes())).unzip();
    let looking: Vec<&Commit> = batch.iter().filter(|commit| commit.has_changes()).collect();
    let named: Vec<MessageId> = looking.iter().flat_map(|commit| answer::named(commit)).collect();
    let channels: Vec<ChannelId> = looking.iter().map(|commit| commit.channel).collect();
    let senders: Vec<&UserId> = looking.iter().map(|commit| &commit.sender.id).collect();
    let requests: Vec<Option<&str>> =
        looking.iter().map(|commit| commit.request.as_ref().map(|(key, _)| key.as_str())).collect();
    // Up to three kinds of locks are awaited one after another, all within the bound of the call.
    let patience = format!("SET LOCAL lock_timeout = {}", (database.bound / 4).as_millis());
    let [enter, lock, sweep, forget, find_keys, lock_messages, find_named, find_requests] =
        [ENTER, LOCK, SWEEP, FORGET, KEYS, MESSAGES, NAMED, FOUND].map(|template| within(tenant, template));
    let [_, _, _, usage, swept, _, held, messages, named, found] = block
        .run([
            ("BEGIN", &[]),
            (&patience, &[]),
            (&enter, &[&asked.plugins]),
            (&lock, &[&asked.plugins]),
            (&sweep, &[&asked.plugins, &asked.ended_by, &i64::from(SWEPT)]),
            (&forget, &[&asked.ended_by.minus(Commit::REMEMBERED), &i64::from(SWEPT)]),
            (&find_keys, &[&plugins, &keys]),
            (&lock_messages, &[&asked.messages]),
            (&find_named, &[&named]),
            (&find_requests, &[&channels, &senders, &requests]),
        ])
        .await?;

    let mut used: HashMap<PluginName, Usage> = usage.iter().map(used).collect::<Result<_, _>>()?;
    for row in &swept {
        let plugin: PluginName = row.try_get("plugin")?;
        used.entry(plugin).or_default().swept(row.try_get::<_, Number>("bytes")?.0);
    }
    let used = asked.plugins.iter().map(|plugin| (*plugin, used.get(*plugin).copied().unwrap_or_default()));
    let held =
        held.iter().map(|row| Ok((asked.keys[place(row)?], held_key(row)?))).collect::<Result<Vec<_>, Fault>>()?;
    let mut changes = Changes::of(used, held, messages.iter().map(of_channel).collect::<Result<Vec<_>, _>>()?);
    let named: HashMap<_, _> = named.iter().map(of_channel).collect::<Result<_, _>>()?;
    let mut earlier: Vec<_> = looking.iter().map(|_| None).collect();
    for row in &found {
        let at = place(row)?;
        earlier[at] = before(row, looking[at])?;
    }

    let mut earlier = earlier.into_iter();
    let verdicts = batch.iter().map(|commit| {
        if !commit.has_changes() {
            return None;
        }
        let unknown = || {
            let all_there = answer::named(commit).iter().all(|message| named.get(message) == Some(&commit.channel));
            (!all_there).then_some(Outcome::UnknownMessage)
        };
        earlier.next().flatten().or_else(unknown).or_else(|| changes.judge(commit))
    });
    Ok((verdicts.collect(), changes))
}

/// What refuses a commit before its keys and messages are looked at.
fn before(row: &Row, commit: &Commit) -> Result<Option<Outcome>, Fault> {
    if row.try_get::<_, Option<&str>>("epoch")?.is_none() {
        return Ok(Some(Outcome::UnknownChannel));
    }
    let Some(Number(seq)) = row.try_get("e_seq")? else { return Ok(None) };
    let receipt = Receipt {
        message: row.try_get("e_id")?,
        epoch: row.try_get("e_epoch")?,
        seq,
        created_at: row.try_get("e_created_at")?,
    };
    Ok(Some(Earlier { receipt, digest: row.try_get("e_digest")? }.outcome(commit)))
}

fn used(row: &Row) -> Result<(PluginName, Usage), Fault> {
    let usage = Usage {
        keys: row.try_get::<_, Number>("keys")?.0,
        bytes: row.try_get::<_, Number>("bytes")?.0,
        version: row.try_get::<_, Number>("version")?.0,
    };
    Ok((row.try_get("plugin")?, usage))
}

fn held_key(row: &Row) -> Result<Held, Fault> {
    Ok(Held {
        version: row.try_get::<_, Number>("version")?.0,
        bytes: row.try_get::<_, Number>("bytes")?.0,
        expires_at: row.try_get("expires_at")?,
    })
}

fn of_channel(row: &Row) -> Result<(MessageId, ChannelId), Fault> {
    Ok((row.try_get("id")?, row.try_get("channel_id")?))
}

/// A place in the parameters, from 0.
fn place(row: &Row) -> Result<usize, Fault> {
    let place = row.try_get::<_, Number>("place")?.0;
    Ok(usize::try_from(place - 1).expect("a place in what was asked for"))
}

/// Writes what was decided, and commits the transaction.
async fn write<'c>(
    block: &Block,
    tenant: &TenantSlug,
    changes: &Changes<'c>,
    done: impl Iterator<Item = (&'c Commit, &'c Outcome)>,
) -> Result<(), Fault> {
    let mut columns = Written::default();
    for (plugin, key, kept) in changes.keys() {
        let Some(kept) = kept else {
            columns.deleted_plugins.push(plugin);
            columns.deleted_keys.push(key.as_bytes());
            continue;
        };
        columns.put_plugins.push(plugin);
        columns.put_keys.push(key.as_bytes());
        columns.put_values.push(kept.value);
        columns.put_versions.push(Number(kept.version));
        columns.put_expiries.push(kept.expires_at);
    }
    for (plugin, usage) in changes.usage() {
        columns.used_plugins.push(plugin);
        columns.used_keys.push(Number(usage.keys));
        columns.used_bytes.push(Number(usage.bytes));
        columns.used_versions.push(Number(usage.version));
    }
    for (message, change) in changes.amended() {
        columns.amended.push(message);
        columns.amended_contents.push(change.content);
        columns.amended_edits.push(change.edited_at);
        columns.amended_deletions.push(change.deleted_at);
    }
    for (commit, outcome) in done {
        if let (Some((key, digest)), Outcome::Done(committed)) = (lone_request(commit), outcome) {
            columns.request_senders.push(&commit.sender.id);
            columns.request_keys.push(key.as_str());
            columns.request_digests.push(digest.as_slice());
            columns.request_channels.push(commit.channel);
            columns.request_seqs.push(Number(committed.receipt.seq));
            columns.request_times.push(commit.at);
        }
    }
    let sql = within(tenant, WRITE);
    let params = columns.params();
    let step: super::connection::Step<'_> = (&sql, &params);
    block.run([step, ("COMMIT", &[])]).await.map(drop)
}

/// What [`WRITE`] writes, in the order of its parameters.
#[derive(Default)]
struct Written<'c> {
    put_plugins: Vec<&'c PluginName>,
    put_keys: Vec<&'c [u8]>,
    put_values: Vec<&'c [u8]>,
    put_versions: Vec<Number>,
    put_expiries: Vec<Option<Timestamp>>,
    deleted_plugins: Vec<&'c PluginName>,
    deleted_keys: Vec<&'c [u8]>,
    used_plugins: Vec<&'c PluginName>,
    used_keys: Vec<Number>,
    used_bytes: Vec<Number>,
    used_versions: Vec<Number>,
    amended: Vec<MessageId>,
    amended_contents: Vec<&'c str>,
    amended_edits: Vec<Option<Timestamp>>,
    amended_deletions: Vec<Option<Timestamp>>,
    request_senders: Vec<&'c UserId>,
    request_keys: Vec<&'c str>,
    request_digests: Vec<&'c [u8]>,
    request_channels: Vec<ChannelId>,
    request_seqs: Vec<Number>,
    request_times: Vec<Timestamp>,
}

impl Written<'_> {
    fn params(&self) -> [Param<'_>; 21] {
        [
            &self.put_plugins,
            &self.put_keys,
            &self.put_values,
            &self.put_versions,
            &self.put_expiries,
            &self.deleted_plugins,
            &self.deleted_keys,
            &self.used_plugins,
            &self.used_keys,
            &self.used_bytes,
            &self.used_versions,
            &self.amended,
            &self.amended_contents,
            &self.amended_edits,
            &self.amended_deletions,
            &self.request_senders,
            &self.request_keys,
            &self.request_digests,
            &self.request_channels,
            &self.request_seqs,
            &self.request_times,
        ]
    }
}
