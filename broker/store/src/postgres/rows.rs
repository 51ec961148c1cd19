//! Reads the model's types from rows of Postgres.
//!
//! Values are checked as they are read: what the model would refuse is an error, never a silent default.

use std::error::Error as StdError;

use bytes::BytesMut;
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row};

use switchboard_model::{Channel, Message, Position, Tenant, User};

type Refused = Box<dyn StdError + Sync + Send>;

/// A `bigint` that is never negative. A larger number is stored as the largest `bigint`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) u64);

impl ToSql for Number {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Refused> {
        i64::try_from(self.0).unwrap_or(i64::MAX).to_sql(ty, out)
    }
    fn accepts(ty: &Type) -> bool {
        <i64 as ToSql>::accepts(ty)
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Number {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Refused> {
        Ok(Number(i64::from_sql(ty, raw)?.try_into()?))
    }
    fn accepts(ty: &Type) -> bool {
        <i64 as FromSql<'_>>::accepts(ty)
    }
}

struct Json(Box<RawValue>);

impl<'a> FromSql<'a> for Json {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Refused> {
        Ok(Json(RawValue::from_string(String::from_sql(ty, raw)?)?))
    }
    fn accepts(ty: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(ty)
    }
}

/// Columns `slug, external_id, enabled, created_at, tokens_since, revision`.
pub(super) fn tenant(row: &Row) -> Result<Tenant, Error> {
    Ok(Tenant {
        slug: row.try_get("slug")?,
        external_id: row.try_get("external_id")?,
        enabled: row.try_get("enabled")?,
        created_at: row.try_get("created_at")?,
        tokens_since: row.try_get("tokens_since")?,
        revision: row.try_get::<_, Number>("revision")?.0,
    })
}

/// Columns `id, username`.
pub(super) fn user(row: &Row) -> Result<User, Error> {
    Ok(User { id: row.try_get("id")?, username: row.try_get("username")? })
}

/// Columns `id, name, epoch, seq, created_at`.
pub(super) fn channel(row: &Row) -> Result<Channel, Error> {
    Ok(Channel {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        epoch: row.try_get("epoch")?,
        seq: row.try_get::<_, Number>("seq")?.0,
        created_at: row.try_get("created_at")?,
    })
}

/// Columns `id, epoch, seq`.
pub(super) fn position(row: &Row) -> Result<Position, Error> {
    Ok(Position { channel: row.try_get("id")?, epoch: row.try_get("epoch")?, seq: row.try_get::<_, Number>("seq")?.0 })
}

/// The columns that [`message`] reads, from a `chat_message` named `m` and its sender, a `member` named `s`. The prefix
/// `m_` lets them appear next to a channel's columns.
macro_rules! message_columns {
    () => {
        "m.id AS m_id, m.channel_id AS m_channel, m.seq AS m_seq, m.kind AS m_kind, m.sender_id AS m_sender, \
         s.username AS m_username, m.content AS m_content, m.reply_to AS m_reply_to, m.attachments AS m_attachments, \
         m.created_at AS m_created_at, m.edited_at AS m_edited_at, m.deleted_at AS m_deleted_at, \
         ARRAY(SELECT r.user_id FROM {t}.message_read_status r \
               WHERE r.channel_id = m.channel_id AND r.seq >= m.seq AND r.user_id <> m.sender_id \
               ORDER BY r.user_id LIMIT 100) AS m_read_by"
    };
}
pub(super) use message_columns;

const _: () = assert!(Message::MAX_READERS == 100, "the limit in message_columns! is this one");

/// Columns of `message_columns!`.
pub(super) fn message(row: &Row) -> Result<Message, Error> {
    Ok(Message {
        id: row.try_get("m_id")?,
        channel: row.try_get("m_channel")?,
        seq: row.try_get::<_, Number>("m_seq")?.0,
        kind: row.try_get("m_kind")?,
        sender: User { id: row.try_get("m_sender")?, username: row.try_get("m_username")? },
        content: row.try_get::<_, Json>("m_content")?.0,
        reply_to: row.try_get("m_reply_to")?,
        attachments: row.try_get::<_, Json>("m_attachments")?.0,
        created_at: row.try_get("m_created_at")?,
        edited_at: row.try_get("m_edited_at")?,
        deleted_at: row.try_get("m_deleted_at")?,
        read_by: row.try_get("m_read_by")?,
    })
}
