//! Channels, their members, and how a member sees them. The caller has already checked permissions.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::Sqlite;
use super::members;
use super::rows::{self, Number, message_columns};
use crate::{ChannelStore, ChannelSummary, NewChannel, StoreError};
use switchboard_model::{Channel, ChannelId, ChannelMember, MessageId, Position, Role, TenantSlug, Timestamp, UserId};

#[async_trait]
impl ChannelStore for Sqlite {
    async fn create_channel(&self, tenant: &TenantSlug, new: &NewChannel) -> Result<bool, StoreError> {
        let new = new.clone();
        self.write(tenant, move |db| {
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
        })
        .await
    }

    async fn role(&self, tenant: &TenantSlug, channel: ChannelId, viewer: &UserId) -> Result<Option<Role>, StoreError> {
        let viewer = viewer.clone();
        self.read(tenant, move |db| {
            db.prepare_cached("SELECT role FROM channel_member WHERE channel_id = ?1 AND user_id = ?2")?
                .query_row(params![channel, viewer], |row| row.get(0))
                .optional()
        })
        .await
    }

    async fn channel(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<Option<Channel>, StoreError> {
        self.read(tenant, move |db| find(db, channel)).await
    }

    /// One prepared query per channel, for the same reason as in [`members_among`].
    async fn positions(&self, tenant: &TenantSlug, channels: &[ChannelId]) -> Result<Vec<Position>, StoreError> {
        let channels = channels.to_vec();
        self.read(tenant, move |db| {
            let mut find = db.prepare_cached("SELECT id, epoch, seq FROM chat_channel WHERE id = ?1")?;
            let found = channels.iter().map(|channel| find.query_row([channel], rows::position).optional());
            found.filter_map(Result::transpose).collect()
        })
        .await
    }

    async fn channel_summary(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        viewer: &UserId,
    ) -> Result<Option<ChannelSummary>, StoreError> {
        let viewer = viewer.clone();
        Ok(self.read(tenant, move |db| summaries(db, &viewer, Some(channel), None, 1)).await?.pop())
    }

    async fn channel_summaries(
        &self,
        tenant: &TenantSlug,
        viewer: &UserId,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<ChannelSummary>, StoreError> {
        let viewer = viewer.clone();
        self.read(tenant, move |db| summaries(db, &viewer, None, after, limit)).await
    }

    async fn channel_members(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<ChannelMember>, StoreError> {
        let after = after.cloned();
        self.read(tenant, move |db| {
            let sql = "SELECT u.id, u.username, cm.role, cm.joined_at FROM channel_member cm \
                       JOIN member u ON u.id = cm.user_id \
                       WHERE cm.channel_id = ?1 AND cm.user_id > ?2 ORDER BY cm.user_id LIMIT ?3";
            let read = |row: &Row<'_>| {
                Ok(ChannelMember { user: rows::user(row)?, role: row.get("role")?, joined_at: row.get("joined_at")? })
            };
            // No id is empty, so the empty text sorts before all of them.
            let after = after.as_ref().map_or("", UserId::as_str);
            db.prepare_cached(sql)?.query_map(params![channel, after, limit], read)?.collect()
        })
        .await
    }

    /// One prepared index lookup per pair: without round trips to a server, a list would save nothing.
    async fn members_among(
        &self,
        tenant: &TenantSlug,
        pairs: &[(ChannelId, UserId)],
    ) -> Result<Vec<(ChannelId, UserId)>, StoreError> {
        let mut pairs = pairs.to_vec();
        self.read(tenant, move |db| {
            let mut find = db.prepare_cached("SELECT 1 FROM channel_member WHERE channel_id = ?1 AND user_id = ?2")?;
            let mut failed = Ok(());
            pairs.retain(|(channel, user)| {
                find.exists(params![channel, user]).unwrap_or_else(|error| {
                    failed = Err(error);
                    false
                })
            });
            failed.map(|()| pairs)
        })
        .await
    }

    async fn member_count(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<u64, StoreError> {
        self.read(tenant, move |db| {
            let sql = "SELECT count(*) FROM channel_member WHERE channel_id = ?1";
            db.prepare_cached(sql)?.query_row([channel], |row| row.get::<_, Number>(0)).map(|count| count.0)
        })
        .await
    }

    async fn add_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
        role: Role,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let user = user.clone();
        self.write(tenant, move |db| {
            if find(db, channel)?.is_none() || members::find(db, &user)?.is_none() {
                return Ok(false);
            }
            db.prepare_cached(JOIN)?.execute(params![channel, user, role, at])?;
            Ok(true)
        })
        .await
    }

    async fn remove_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
    ) -> Result<bool, StoreError> {
        let user = user.clone();
        self.dismiss(tenant, move |db| {
            let sql = "DELETE FROM channel_member WHERE channel_id = ?1 AND user_id = ?2";
            Ok(db.prepare_cached(sql)?.execute(params![channel, user])? == 1)
        })
        .await
    }
}

const JOIN: &str = "INSERT INTO channel_member (channel_id, user_id, role, joined_at) VALUES (?1, ?2, ?3, ?4) \
                    ON CONFLICT DO NOTHING";

/// The newest message is the one with the channel's `seq`, because the numbering has no gaps.
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

fn find(db: &Connection, channel: ChannelId) -> Result<Option<Channel>> {
    db.prepare_cached("SELECT id, name, epoch, seq, created_at FROM chat_channel WHERE id = ?1")?
        .query_row([channel], rows::channel)
        .optional()
}
