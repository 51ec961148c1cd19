//! A tenant's members and their tokens. Passwords are compared elsewhere.

use super::Postgres;
use super::connection::unreadable;
use super::rows::{self, Number};
use crate::{
    Bearer, Credentials, KnownBearer, MemberStore, REFRESH_GRACE, REVOCATION_KEPT, RefreshUse, Renamed, StoreError,
    Successor,
};
use async_trait::async_trait;
use switchboard_model::{TenantSlug, Timestamp, User, UserId, Username};
use tokio_postgres::{Error, Row};

#[async_trait]
impl MemberStore for Postgres {
    async fn create_member(
        &self,
        tenant: &TenantSlug,
        user: &User,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO {t}.member (id, username, password_hash, created_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT DO NOTHING RETURNING id";
        let made = self.database.tenant(tenant, sql, &[&user.id, &user.username, &password_hash, &at]).await?;
        Ok(!made.is_empty())
    }

    async fn member(&self, tenant: &TenantSlug, id: &UserId) -> Result<Option<User>, StoreError> {
        let found = self.database.tenant(tenant, "SELECT id, username FROM {t}.member WHERE id = $1", &[id]).await?;
        found.first().map(rows::user).transpose().map_err(unreadable)
    }

    async fn credentials(&self, tenant: &TenantSlug, username: &Username) -> Result<Option<Credentials>, StoreError> {
        let sql = "SELECT id, username, state, password_hash FROM {t}.member WHERE username = $1";
        let found = self.database.tenant(tenant, sql, &[username]).await?;
        let read = |row| {
            Ok(Credentials {
                user: rows::user(row)?,
                state: row.try_get("state")?,
                password_hash: row.try_get("password_hash")?,
            })
        };
        found.first().map(read).transpose().map_err(unreadable)
    }

    async fn bearers(&self, tenant: &TenantSlug, bearers: &[Bearer]) -> Result<Vec<Option<KnownBearer>>, StoreError> {
        let users: Vec<&UserId> = bearers.iter().map(|bearer| &bearer.user).collect();
        let jtis: Vec<Option<&str>> = bearers.iter().map(|bearer| bearer.token.jti.as_deref()).collect();
        let families: Vec<Option<&str>> = bearers.iter().map(|bearer| bearer.token.family.as_deref()).collect();
        let found = self.database.tenant(tenant, BEARERS, &[&users, &jtis, &families]).await?;
        let mut known = vec![None; bearers.len()];
        for row in &found {
            let place = row.try_get::<_, Number>("place").map_err(unreadable)?.0;
            let at = usize::try_from(place - 1).expect("a place among the bearers");
            known[at] = Some(bearer(row).map_err(unreadable)?);
        }
        Ok(known)
    }

    async fn spend_refresh(&self, tenant: &TenantSlug, used: &RefreshUse<'_>) -> Result<Option<Successor>, StoreError> {
        let RefreshUse { jti, family, successor, expires_at, now } = used;
        let (kept, since) = (expires_at.plus(REVOCATION_KEPT), now.minus(REFRESH_GRACE));
        let params: [super::connection::Param<'_>; 8] =
            [jti, family, expires_at, now, &kept, successor, &since, tenant];
        let found = self.database.tenant(tenant, SPEND, &params).await?;
        let read = |row: &Row| Ok(Successor { jti: row.try_get("successor")?, at: row.try_get("spent_at")? });
        found.first().map(read).transpose().map_err(unreadable)
    }

    async fn revoke_family(&self, tenant: &TenantSlug, family: &str, until: Timestamp) -> Result<(), StoreError> {
        let kept = until.plus(REVOCATION_KEPT);
        self.database.tenant(tenant, REVOKE_FAMILY, &[&family, &kept, tenant]).await.map(drop)
    }

    async fn revoke_token(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.database.tenant(tenant, REVOKE_TOKEN, &[&jti, &until, &now, tenant]).await.map(drop)
    }

    async fn set_member_enabled(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        enabled: bool,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (from, to) = if enabled { ("disabled", "active") } else { ("active", "disabled") };
        let changed = self.database.tenant(tenant, SET_STATE, &[id, &from, &to, &at, tenant]).await?;
        Ok(!changed.is_empty())
    }

    async fn delete_member(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        name: &Username,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(!self.database.tenant(tenant, DELETE, &[id, name, &at, tenant]).await?.is_empty())
    }

    async fn rename_member(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        name: &Username,
        at: Timestamp,
        ends_tokens: bool,
    ) -> Result<Renamed, StoreError> {
        let found = self.database.tenant(tenant, RENAME, &[id, name, &at, &ends_tokens, tenant]).await?;
        let Some(row) = found.first() else { return Ok(Renamed::Unknown) };
        let is_done = row.try_get("is_done").map_err(unreadable)?;
        Ok(if is_done { Renamed::Yes } else { Renamed::Taken })
    }

    async fn set_password(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(!self.database.tenant(tenant, SET_PASSWORD, &[id, &password_hash, &at, tenant]).await?.is_empty())
    }
}

fn bearer(row: &Row) -> Result<KnownBearer, Error> {
    Ok(KnownBearer {
        user: rows::user(row)?,
        state: row.try_get("state")?,
        tokens_since: row.try_get("tokens_since")?,
        named_at: row.try_get("named_at")?,
        is_revoked: row.try_get("is_revoked")?,
        is_spent: row.try_get("is_spent")?,
    })
}

const BEARERS: &str = "
SELECT b.place, m.id, m.username, m.state, m.tokens_since, coalesce(m.named_at, m.created_at) AS named_at,
       EXISTS (SELECT FROM {t}.revoked_token r WHERE r.jti = b.jti)
           OR EXISTS (SELECT FROM {t}.revoked_family f WHERE f.family = b.family) AS is_revoked,
       EXISTS (SELECT FROM {t}.spent_refresh s WHERE s.jti = b.jti) AS is_spent
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS b (user_id, jti, family, place)
JOIN LATERAL (SELECT * FROM {t}.member m WHERE m.id = b.user_id LIMIT 1) AS m ON true";

/// When two callers spend the same token at once, the second insert waits for the first, and its `DO UPDATE`, which changes
/// nothing, reads what the first one wrote. A token of which the first use is not noted (from before successors were) counts
/// as used for the second time.
const SPEND: &str = "
WITH forgotten_tokens AS (
    DELETE FROM {t}.spent_refresh WHERE jti <> $1 AND jti IN (
        SELECT jti FROM {t}.spent_refresh WHERE expires_at < $4 ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
), forgotten_families AS (
    DELETE FROM {t}.revoked_family WHERE family <> $2 AND family IN (
        SELECT family FROM {t}.revoked_family WHERE expires_at < $4 ORDER BY expires_at LIMIT 100
        FOR UPDATE SKIP LOCKED)
), used AS (
    INSERT INTO {t}.spent_refresh AS s (jti, family, expires_at, successor, spent_at)
    SELECT $1, $2, $3, $6, $4 WHERE NOT EXISTS (SELECT FROM {t}.revoked_family WHERE family = $2)
    ON CONFLICT (jti) DO UPDATE SET expires_at = s.expires_at
    RETURNING successor, spent_at
), accepted AS (
    SELECT successor, spent_at FROM used
    WHERE successor = $6
       OR spent_at > $7 AND NOT EXISTS (SELECT FROM {t}.spent_refresh n WHERE n.jti = used.successor)
), revoked AS (
    INSERT INTO {t}.revoked_family (family, expires_at)
    SELECT $2, $5 WHERE NOT EXISTS (SELECT FROM accepted)
    ON CONFLICT (family) DO UPDATE SET expires_at = greatest(revoked_family.expires_at, excluded.expires_at)
    RETURNING xmax = 0 AS is_new
), noticed AS (
    UPDATE switchboard.tenant SET revision = revision + 1
    WHERE slug = $8 AND EXISTS (SELECT FROM revoked WHERE is_new)
)
SELECT successor, spent_at FROM accepted";

const REVOKE_FAMILY: &str = "
WITH revoked AS (
    INSERT INTO {t}.revoked_family (family, expires_at) VALUES ($1, $2)
    ON CONFLICT (family) DO UPDATE SET expires_at = greatest(revoked_family.expires_at, excluded.expires_at)
)
UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = $3";

const REVOKE_TOKEN: &str = "
WITH forgotten AS (
    DELETE FROM {t}.revoked_token WHERE jti <> $1 AND jti IN (
        SELECT jti FROM {t}.revoked_token WHERE expires_at < $3 ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
), revoked AS (
    INSERT INTO {t}.revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING
)
UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = $4";

const SET_STATE: &str = "
WITH changed AS (
    UPDATE {t}.member SET state = $3, tokens_since = $4 WHERE id = $1 AND state = $2 RETURNING id
)
UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = $5 AND EXISTS (SELECT FROM changed) RETURNING slug";

const DELETE: &str = "
WITH changed AS (
    UPDATE {t}.member SET state = 'deleted', username = $2, password_hash = NULL, tokens_since = $3, named_at = $3
    WHERE id = $1 AND state <> 'deleted' RETURNING id
), gone AS (
    DELETE FROM {t}.channel_member WHERE user_id IN (SELECT id FROM changed)
)
UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = $4 AND EXISTS (SELECT FROM changed) RETURNING slug";

const RENAME: &str = "
WITH changed AS (
    UPDATE {t}.member SET username = $2, named_at = $3, tokens_since = CASE WHEN $4 THEN $3 ELSE tokens_since END
    WHERE id = $1 AND state <> 'deleted' AND NOT EXISTS (SELECT FROM {t}.member o WHERE o.username = $2 AND o.id <> $1)
    RETURNING id
), noticed AS (
    UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = $5 AND $4 AND EXISTS (SELECT FROM changed)
)
SELECT EXISTS (SELECT FROM changed) AS is_done FROM {t}.member WHERE id = $1 AND state <> 'deleted'";

const SET_PASSWORD: &str = "
WITH changed AS (
    UPDATE {t}.member SET password_hash = $2, tokens_since = $3 WHERE id = $1 AND state <> 'deleted' RETURNING id
)
UPDATE switchboard.tenant SET revision = revision + 1 WHERE slug = $4 AND EXISTS (SELECT FROM changed) RETURNING slug";
