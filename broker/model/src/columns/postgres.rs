//! The model's types as columns of Postgres.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::{
    ChannelId, Digest, Epoch, Kind, MemberState, MessageId, PluginName, Role, TenantSlug, Timestamp, UserId, Username,
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

as_text!(TenantSlug, Kind, PluginName, Digest, Epoch);
as_uuid!(ChannelId, MessageId);

macro_rules! as_word {
    ($($name:ident),*) => {$(
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
                Ok($name::from_stored(<&str>::from_sql(ty, raw)?))
            }
            fn accepts(ty: &Type) -> bool {
                <&str as FromSql<'_>>::accepts(ty)
            }
        }
    )*};
}

// What the store has is kept as it is: rules for new names must not keep a known member out.
as_word!(Role, MemberState, UserId, Username);

/// 2000-01-01, from which Postgres counts microseconds.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;
/// The years 1 to 9999, well within what `timestamptz` holds.
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
