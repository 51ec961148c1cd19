//! How the model's types travel to Postgres and back, and how a row becomes one of them.
//!
//! A row is checked as it is read: a value that the model would refuse is an error, never a silent default.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::model::{
    Channel, ChannelId, Digest, Epoch, Kind, Message, MessageId, PluginName, Position, Role, Tenant, TenantSlug,
    Timestamp, User, UserId, Username,
};

type Refused = Box<dyn StdError + Sync + Send>;

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl ToSql for $name {
            fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Refused> {
                self.as_str().to_sql(ty, out)
            }
            fn accepts(ty: &Type) -> bool {
                <&str as ToSql>::accepts(ty)
            }
            to_sql_checked!();
        }

        impl<'a> FromSql<'a> for $name {
            fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Refused> {
                Ok(<&str>::from_sql(ty, raw)?.parse()?)
            }
            fn accepts(ty: &Type) -> bool {
                <&str as FromSql<'_>>::accepts(ty)
            }
        }
    )*};
}

macro_rules! as_uuid {
    ($($name:ident),*) => {$(
        impl ToSql for $name {
            fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Refused> {
                out.put_slice(self.0.as_bytes());
                Ok(IsNull::No)
            }
            fn accepts(ty: &Type) -> bool {
                *ty == Type::UUID
            }
            to_sql_checked!();
        }

        impl<'a> FromSql<'a> for $name {
            fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Refused> {
                Ok(Self(Uuid::from_slice(raw)?))
            }
            fn accepts(ty: &Type) -> bool {
                *ty == Type::UUID
            }
        }
    )*};
}

as_text!(TenantSlug, UserId, Username, Kind, PluginName, Digest, Epoch);
as_uuid!(ChannelId, MessageId);

impl ToSql for Role {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Refused> {
        self.as_str().to_sql(ty, out)
    }
    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Role {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Refused> {
        Ok(Role::from_stored(<&str>::from_sql(ty, raw)?))
    }
    fn accepts(ty: &Type) -> bool {
        <&str as FromSql<'_>>::accepts(ty)
    }
}

/// 2000-01-01, where Postgres counts microseconds from.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;
/// The years 1 to 9999, well within what a `timestamptz` holds.
const TIME_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Refused> {
        out.put_i64((self.0.clamp(*TIME_MS.start(), *TIME_MS.end()) - POSTGRES_EPOCH_MS) * 1_000);
        Ok(IsNull::No)
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Refused> {
        let micros = i64::from_sql(&Type::INT8, raw).map_err(|_| format!("{ty} is not 8 bytes"))?;
        Ok(Timestamp(micros.div_euclid(1_000).saturating_add(POSTGRES_EPOCH_MS)))
    }
    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// A `bigint` that is never negative. One too large for a `bigint` becomes the largest.
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

/// Reads `slug, external_id, enabled, created_at`.
pub(super) fn tenant(row: &Row) -> Result<Tenant, Error> {
    Ok(Tenant {
        slug: row.try_get("slug")?,
        external_id: row.try_get("external_id")?,
        enabled: row.try_get("enabled")?,
        created_at: row.try_get("created_at")?,
    })
}

/// Reads `id, username`.
pub(super) fn user(row: &Row) -> Result<User, Error> {
    Ok(User { id: row.try_get("id")?, username: row.try_get("username")? })
}

/// Reads `id, name, epoch, seq, created_at`.
pub(super) fn channel(row: &Row) -> Result<Channel, Error> {
    Ok(Channel {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        epoch: row.try_get("epoch")?,
        seq: row.try_get::<_, Number>("seq")?.0,
        created_at: row.try_get("created_at")?,
    })
}

/// Reads `id, epoch, seq`.
pub(super) fn position(row: &Row) -> Result<Position, Error> {
    Ok(Position { channel: row.try_get("id")?, epoch: row.try_get("epoch")?, seq: row.try_get::<_, Number>("seq")?.0 })
}

/// What [`message`] reads: a `chat_message` called `m` and its sender, a `member` called `s`. Their names start with
/// `m_`, so that they can stand beside a channel's.
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

/// Reads `message_columns!`.
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
