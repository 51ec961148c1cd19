//! Channels, who is in them, and how each looks to a member. Whether a caller may do it was decided before.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::members;
use super::rows::{self, Number, message_columns};
use crate::{ChannelSummary, NewChannel};
use switchboard_model::{Channel, ChannelId, ChannelMember, MessageId, Position, Role, Timestamp, UserId};

const JOIN: &str = "INSERT INTO channel_member (channel_id, user_id, role, joined_at) VALUES (?1, ?2, ?3, ?4) \
                    ON CONFLICT DO NOTHING";

pub(super) fn create(db: &Connection, new: &NewChannel) -> Result<bool> {
    for (user, _) in &new.members {
        if members::find(db, user)?.is_none() {
            return Ok(false);
        }
    }
    db.prepare_cached("INSERT INTO chat_channel (id, name, epoch, created_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![new.id, new.name, new.epoch, new.at])?;
    let mut join = db.prepare_cached(JOIN)?;
    for (user, role) in &new.members {
        join.execute(params![new.id, user, role, new.at])?;
    }
    Ok(true)
}

pub(super) fn role(db: &Connection, channel: ChannelId, viewer: &UserId) -> Result<Option<Role>> {
    db.prepare_cached("SELECT role FROM channel_member WHERE channel_id = ?1 AND user_id = ?2")?
        .query_row(params![channel, viewer], |row| row.get(0))
        .optional()
}

/// One prepared look at the index for each: there is no server to go to, so a list would save nothing.
pub(super) fn members_among(db: &Connection, mut seats: Vec<(ChannelId, UserId)>) -> Result<Vec<(ChannelId, UserId)>> {
    let mut find = db.prepare_cached("SELECT 1 FROM channel_member WHERE channel_id = ?1 AND user_id = ?2")?;
    let mut failed = Ok(());
    seats.retain(|(channel, user)| {
        find.exists(params![channel, user]).unwrap_or_else(|error| {
            failed = Err(error);
            false
        })
    });
    failed.map(|()| seats)
}

pub(super) fn find(db: &Connection, channel: ChannelId) -> Result<Option<Channel>> {
    db.prepare_cached("SELECT id, name, epoch, seq, created_at FROM chat_channel WHERE id = ?1")?
        .query_row([channel], rows::channel)
        .optional()
}

/// As [`members_among`] does it.
pub(super) fn positions(db: &Connection, channels: &[ChannelId]) -> Result<Vec<Position>> {
    let mut find = db.prepare_cached("SELECT id, epoch, seq FROM chat_channel WHERE id = ?1")?;
    let found = channels.iter().map(|channel| find.query_row([channel], rows::position).optional());
    found.filter_map(Result::transpose).collect()
}

/// The newest message is the one whose number the channel has, since numbers have no gap.
const SUMMARIES: &str = concat!(
    "SELECT c.id, c.name, c.epoch, c.seq, c.created_at, cm.role,
    (SELECT count(*) FROM channel_member x WHERE x.channel_id = c.id) AS member_count,
    (SELECT count(*) FROM (
        SELECT 1 FROM chat_message u
        WHERE u.channel_id = c.id AND u.seq > coalesce(mark.seq, 0) AND u.sender_id <> ?1
        LIMIT 1000)) AS unread, ",
    message_columns!(),
    " FROM channel_member cm
    JOIN chat_channel c ON c.id = cm.channel_id
    LEFT JOIN message_read_status mark ON mark.channel_id = c.id AND mark.user_id = cm.user_id
    LEFT JOIN chat_message m ON m.channel_id = c.id AND m.seq = c.seq
    LEFT JOIN member s ON s.id = m.sender_id
    WHERE cm.user_id = ?1 AND (?2 IS NULL OR cm.channel_id = ?2) AND (?3 IS NULL OR cm.channel_id > ?3)
    ORDER BY cm.channel_id LIMIT ?4"
);

const _: () = assert!(ChannelSummary::MAX_UNREAD == 1_000, "the limit in SUMMARIES is this one");

pub(super) fn summaries(
    db: &Connection,
    viewer: &UserId,
    only: Option<ChannelId>,
    after: Option<ChannelId>,
    limit: u32,
) -> Result<Vec<ChannelSummary>> {
    db.prepare_cached(SUMMARIES)?.query_map(params![viewer, only, after, limit], summary)?.collect()
}

fn summary(row: &Row<'_>) -> Result<ChannelSummary> {
    let last: Option<MessageId> = row.get("m_id")?;
    Ok(ChannelSummary {
        channel: rows::channel(row)?,
        role: row.get("role")?,
        member_count: row.get::<_, Number>("member_count")?.0,
        unread: row.get::<_, Number>("unread")?.0,
        last_message: last.map(|_| rows::message(row)).transpose()?,
    })
}

pub(super) fn members(
    db: &Connection,
    channel: ChannelId,
    after: Option<&UserId>,
    limit: u32,
) -> Result<Vec<ChannelMember>> {
    let sql = "SELECT u.id, u.username, cm.role, cm.joined_at FROM channel_member cm \
               JOIN member u ON u.id = cm.user_id \
               WHERE cm.channel_id = ?1 AND cm.user_id > ?2 ORDER BY cm.user_id LIMIT ?3";
    let read = |row: &Row<'_>| {
        Ok(ChannelMember { user: rows::user(row)?, role: row.get("role")?, joined_at: row.get("joined_at")? })
    };
    // No id is empty, so the empty text is before them all.
    let after = after.map_or("", UserId::as_str);
    db.prepare_cached(sql)?.query_map(params![channel, after, limit], read)?.collect()
}

pub(super) fn member_count(db: &Connection, channel: ChannelId) -> Result<u64> {
    let sql = "SELECT count(*) FROM channel_member WHERE channel_id = ?1";
    db.prepare_cached(sql)?.query_row([channel], |row| row.get::<_, Number>(0)).map(|count| count.0)
}

pub(super) fn add_member(
    db: &Connection,
    channel: ChannelId,
    user: &UserId,
    role: Role,
    at: Timestamp,
) -> Result<bool> {
    if find(db, channel)?.is_none() || members::find(db, user)?.is_none() {
        return Ok(false);
    }
    db.prepare_cached(JOIN)?.execute(params![channel, user, role, at])?;
    Ok(true)
}

pub(super) fn remove_member(db: &Connection, channel: ChannelId, user: &UserId) -> Result<bool> {
    let sql = "DELETE FROM channel_member WHERE channel_id = ?1 AND user_id = ?2";
    Ok(db.prepare_cached(sql)?.execute(params![channel, user])? == 1)
}
