//! Reads the model's types from rows of SQLite.
//!
//! Values are checked as they are read: what the model would refuse is an error, never a silent default.

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde_json::value::RawValue;

use switchboard_model::{Channel, Message, Position, Tenant, User, UserId};

/// An integer that is never negative. A larger number is stored as the largest one.
pub(super) struct Number(pub(super) u64);

impl ToSql for Number {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for Number {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        u64::try_from(number).map(Number).map_err(|_| FromSqlError::OutOfRange(number))
    }
}

struct Json<T>(T);

impl FromSql for Json<Box<RawValue>> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?.to_owned();
        RawValue::from_string(text).map(Json).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl FromSql for Json<Vec<UserId>> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Json).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// Columns `slug, external_id, enabled, created_at, tokens_since, revision`.
pub(super) fn tenant(row: &Row<'_>) -> rusqlite::Result<Tenant> {
    Ok(Tenant {
        slug: row.get("slug")?,
        external_id: row.get("external_id")?,
        enabled: row.get("enabled")?,
        created_at: row.get("created_at")?,
        tokens_since: row.get("tokens_since")?,
        revision: row.get::<_, Number>("revision")?.0,
    })
}

/// Columns `id, username`.
pub(super) fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User { id: row.get("id")?, username: row.get("username")? })
}

/// Columns `id, name, epoch, seq, created_at`.
pub(super) fn channel(row: &Row<'_>) -> rusqlite::Result<Channel> {
    Ok(Channel {
        id: row.get("id")?,
        name: row.get("name")?,
        epoch: row.get("epoch")?,
        seq: row.get::<_, Number>("seq")?.0,
        created_at: row.get("created_at")?,
    })
}

/// Columns `id, epoch, seq`.
pub(super) fn position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position { channel: row.get("id")?, epoch: row.get("epoch")?, seq: row.get::<_, Number>("seq")?.0 })
}

/// The columns that [`message`] reads, from a `chat_message` named `m` and its sender, a `member` named `s`. The prefix
/// `m_` lets them appear next to a channel's columns.
macro_rules! message_columns {
    () => {
        "m.id AS m_id, m.channel_id AS m_channel, m.seq AS m_seq, m.kind AS m_kind, m.sender_id AS m_sender, \
         s.username AS m_username, m.content AS m_content, m.reply_to AS m_reply_to, m.attachments AS m_attachments, \
         m.created_at AS m_created_at, m.edited_at AS m_edited_at, m.deleted_at AS m_deleted_at, \
         (SELECT json_group_array(user_id ORDER BY user_id) FROM ( \
              SELECT r.user_id FROM message_read_status r \
              WHERE r.channel_id = m.channel_id AND r.seq >= m.seq AND r.user_id <> m.sender_id \
              ORDER BY r.user_id LIMIT 100)) AS m_read_by"
    };
}
pub(super) use message_columns;

const _: () = assert!(Message::MAX_READERS == 100, "the limit in message_columns! is this one");

/// Columns of `message_columns!`.
pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get("m_id")?,
        channel: row.get("m_channel")?,
        seq: row.get::<_, Number>("m_seq")?.0,
        kind: row.get("m_kind")?,
        sender: User { id: row.get("m_sender")?, username: row.get("m_username")? },
        content: row.get::<_, Json<Box<RawValue>>>("m_content")?.0,
        reply_to: row.get("m_reply_to")?,
        attachments: row.get::<_, Json<Box<RawValue>>>("m_attachments")?.0,
        created_at: row.get("m_created_at")?,
        edited_at: row.get("m_edited_at")?,
        deleted_at: row.get("m_deleted_at")?,
        read_by: row.get::<_, Json<Vec<UserId>>>("m_read_by")?.0,
    })
}
