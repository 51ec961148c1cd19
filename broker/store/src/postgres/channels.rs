//! Channels, their members, and how a member sees them. The caller has already checked permissions.

use async_trait::async_trait;
use tokio_postgres::{Error, Row};

use super::Postgres;
use super::connection::{Database, unreadable};
use super::rows::{self, Number, message_columns};
use crate::{ChannelStore, ChannelSummary, NewChannel, StoreError};
use switchboard_model::{Channel, ChannelId, ChannelMember, MessageId, Position, Role, TenantSlug, Timestamp, UserId};

#[async_trait]
impl ChannelStore for Postgres {
    async fn create_channel(&self, tenant: &TenantSlug, new: &NewChannel) -> Result<bool, StoreError> {
        let (users, roles): (Vec<&UserId>, Vec<Role>) = new.members.iter().map(|(user, role)| (user, *role)).unzip();
        let made =
            self.database.tenant(tenant, CREATE, &[&new.id, &new.name, &new.epoch, &new.at, &users, &roles]).await?;
        Ok(!made.is_empty())
    }

    async fn role(&self, tenant: &TenantSlug, channel: ChannelId, viewer: &UserId) -> Result<Option<Role>, StoreError> {
        let sql = "SELECT role FROM {t}.channel_member WHERE channel_id = $1 AND user_id = $2";
        let found = self.database.tenant(tenant, sql, &[&channel, viewer]).await?;
        found.first().map(|row| row.try_get("role")).transpose().map_err(unreadable)
    }

    async fn channel(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<Option<Channel>, StoreError> {
        let sql = "SELECT id, name, epoch, seq, created_at FROM {t}.chat_channel WHERE id = $1";
        let found = self.database.tenant(tenant, sql, &[&channel]).await?;
        found.first().map(rows::channel).transpose().map_err(unreadable)
    }

    async fn positions(&self, tenant: &TenantSlug, channels: &[ChannelId]) -> Result<Vec<Position>, StoreError> {
        let sql = "SELECT id, epoch, seq FROM {t}.chat_channel WHERE id = ANY ($1::uuid[])";
        let found = self.database.tenant(tenant, sql, &[&channels]).await?;
        found.iter().map(rows::position).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn channel_summary(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        viewer: &UserId,
    ) -> Result<Option<ChannelSummary>, StoreError> {
        Ok(summaries(&self.database, tenant, viewer, Some(channel), None, 1).await?.pop())
    }

    async fn channel_summaries(
        &self,
        tenant: &TenantSlug,
        viewer: &UserId,
        after: Option<ChannelId>,
        limit: u32,
    ) -> Result<Vec<ChannelSummary>, StoreError> {
        summaries(&self.database, tenant, viewer, None, after, limit).await
    }

    async fn channel_members(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<ChannelMember>, StoreError> {
        let sql = "SELECT u.id, u.username, cm.role, cm.joined_at FROM {t}.channel_member cm \
                   JOIN {t}.member u ON u.id = cm.user_id \
                   WHERE cm.channel_id = $1 AND cm.user_id > $2 ORDER BY cm.user_id LIMIT $3";
        // No id is empty, so the empty text sorts before all of them.
        let after = after.map_or("", UserId::as_str);
        let found = self.database.tenant(tenant, sql, &[&channel, &after, &i64::from(limit)]).await?;
        found.iter().map(member).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn members_among(
        &self,
        tenant: &TenantSlug,
        pairs: &[(ChannelId, UserId)],
    ) -> Result<Vec<(ChannelId, UserId)>, StoreError> {
        let sql = "SELECT channel_id, user_id FROM {t}.channel_member \
                   JOIN unnest($1::uuid[], $2::text[]) AS asked (channel_id, user_id) USING (channel_id, user_id)";
        let (channels, users): (Vec<ChannelId>, Vec<&UserId>) =
            pairs.iter().map(|(channel, user)| (*channel, user)).unzip();
        let found = self.database.tenant(tenant, sql, &[&channels, &users]).await?;
        let pair = |row: &Row| Ok((row.try_get("channel_id")?, row.try_get("user_id")?));
        found.iter().map(pair).collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn member_count(&self, tenant: &TenantSlug, channel: ChannelId) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) AS count FROM {t}.channel_member WHERE channel_id = $1";
        let found = self.database.tenant(tenant, sql, &[&channel]).await?;
        let count = found.first().map(|row| row.try_get::<_, Number>("count")).transpose().map_err(unreadable)?;
        Ok(count.map_or(0, |count| count.0))
    }

    async fn add_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
        role: Role,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(!self.database.tenant(tenant, ADD_MEMBER, &[&channel, user, &role, &at]).await?.is_empty())
    }

    async fn remove_channel_member(
        &self,
        tenant: &TenantSlug,
        channel: ChannelId,
        user: &UserId,
    ) -> Result<bool, StoreError> {
        Ok(!self.database.tenant(tenant, REMOVE_MEMBER, &[&channel, user, tenant]).await?.is_empty())
    }
}

/// Nodes that do not hear of it on the bus find the tenant's new revision.
const REMOVE_MEMBER: &str = "
WITH gone AS (
    DELETE FROM {t}.channel_member WHERE channel_id = $1 AND user_id = $2 RETURNING user_id
)
UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = $3 AND EXISTS (SELECT FROM gone) RETURNING slug";

const CREATE: &str = "
WITH wanted AS (
    SELECT * FROM unnest($5::text[], $6::text[]) AS w (user_id, role)
), made AS (
    INSERT INTO {t}.chat_channel (id, name, epoch, created_at)
    SELECT $1, $2, $3, $4
    WHERE NOT EXISTS (SELECT FROM wanted WHERE user_id NOT IN (SELECT id FROM {t}.member))
    RETURNING id
), joined AS (
    INSERT INTO {t}.channel_member (channel_id, user_id, role, joined_at)
    SELECT made.id, wanted.user_id, wanted.role, $4 FROM made, wanted
    ON CONFLICT DO NOTHING
)
SELECT id FROM made";

/// The newest message is the one with the channel's `seq`, because the numbering has no gaps.
const SUMMARIES: &str = concat!(
    "SELECT c.id, c.name, c.epoch, c.seq, c.created_at, cm.role,
    (SELECT count(*) FROM {t}.channel_member x WHERE x.channel_id = c.id) AS member_count,
    (SELECT count(*) FROM (
        SELECT FROM {t}.chat_message u
        WHERE u.channel_id = c.id AND u.seq > coalesce(mark.seq, 0) AND u.sender_id <> $1
        LIMIT 1000) AS capped) AS unread, ",
    message_columns!(),
    " FROM {t}.channel_member cm
    JOIN {t}.chat_channel c ON c.id = cm.channel_id
    LEFT JOIN {t}.message_read_status mark ON mark.channel_id = c.id AND mark.user_id = cm.user_id
    LEFT JOIN {t}.chat_message m ON m.channel_id = c.id AND m.seq = c.seq
    LEFT JOIN {t}.member s ON s.id = m.sender_id
    WHERE cm.user_id = $1 AND ($2::uuid IS NULL OR cm.channel_id = $2) AND ($3::uuid IS NULL OR cm.channel_id > $3)
    ORDER BY cm.channel_id LIMIT $4"
);

const _: () = assert!(ChannelSummary::MAX_UNREAD == 1_000, "the limit in SUMMARIES is this one");

pub(super) async fn summaries(
    database: &Database,
    tenant: &TenantSlug,
    viewer: &UserId,
    only: Option<ChannelId>,
    after: Option<ChannelId>,
    limit: u32,
) -> Result<Vec<ChannelSummary>, StoreError> {
    let found = database.tenant(tenant, SUMMARIES, &[viewer, &only, &after, &i64::from(limit)]).await?;
    found.iter().map(summary).collect::<Result<_, _>>().map_err(unreadable)
}

fn summary(row: &Row) -> Result<ChannelSummary, Error> {
    let last: Option<MessageId> = row.try_get("m_id")?;
    Ok(ChannelSummary {
        channel: rows::channel(row)?,
        role: row.try_get("role")?,
        member_count: row.try_get::<_, Number>("member_count")?.0,
        unread: row.try_get::<_, Number>("unread")?.0,
        last_message: last.map(|_| rows::message(row)).transpose()?,
    })
}

fn member(row: &Row) -> Result<ChannelMember, Error> {
    Ok(ChannelMember { user: rows::user(row)?, role: row.try_get("role")?, joined_at: row.try_get("joined_at")? })
}

const ADD_MEMBER: &str = "
WITH known AS (
    SELECT c.id AS channel_id, u.id AS user_id FROM {t}.chat_channel c, {t}.member u WHERE c.id = $1 AND u.id = $2
), added AS (
    INSERT INTO {t}.channel_member (channel_id, user_id, role, joined_at)
    SELECT channel_id, user_id, $3, $4 FROM known
    ON CONFLICT DO NOTHING
)
SELECT user_id FROM known";
