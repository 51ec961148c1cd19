//! A tenant's members and their refresh tokens. Passwords are compared elsewhere.

use super::Postgres;
use super::connection::unreadable;
use super::rows;
use crate::{Credentials, MemberStore, REVOCATION_KEPT, StoreError};
use async_trait::async_trait;
use switchboard_model::{TenantSlug, Timestamp, User, UserId, Username};

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
        let sql = "SELECT id, username, password_hash FROM {t}.member WHERE username = $1";
        let found = self.database.tenant(tenant, sql, &[username]).await?;
        let read = |row| Ok(Credentials { user: rows::user(row)?, password_hash: row.try_get("password_hash")? });
        found.first().map(read).transpose().map_err(unreadable)
    }

    async fn spend_refresh(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        family: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let kept = expires_at.plus(REVOCATION_KEPT);
        Ok(!self.database.tenant(tenant, SPEND, &[&jti, &family, &expires_at, &now, &kept]).await?.is_empty())
    }
}

/// When two callers spend the same token at once, the second insert waits for the first and then finds the token spent.
const SPEND: &str = "
WITH forgotten_tokens AS (
    DELETE FROM {t}.spent_refresh WHERE jti <> $1 AND jti IN (
        SELECT jti FROM {t}.spent_refresh WHERE expires_at < $4 ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
), forgotten_families AS (
    DELETE FROM {t}.revoked_family WHERE family <> $2 AND family IN (
        SELECT family FROM {t}.revoked_family WHERE expires_at < $4 ORDER BY expires_at LIMIT 100
        FOR UPDATE SKIP LOCKED)
), spent AS (
    INSERT INTO {t}.spent_refresh (jti, family, expires_at)
    SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM {t}.revoked_family WHERE family = $2)
    ON CONFLICT DO NOTHING
    RETURNING jti
), revoked AS (
    INSERT INTO {t}.revoked_family (family, expires_at)
    SELECT $2, $5 WHERE NOT EXISTS (SELECT FROM spent)
    ON CONFLICT (family) DO UPDATE SET expires_at = greatest(revoked_family.expires_at, excluded.expires_at)
)
SELECT jti FROM spent";
