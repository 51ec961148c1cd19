//! A tenant's members and their refresh tokens. Passwords are compared elsewhere.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::Sqlite;
use super::rows;
use crate::{Credentials, MemberStore, REVOCATION_KEPT, StoreError};
use switchboard_model::{TenantSlug, Timestamp, User, UserId, Username};

#[async_trait]
impl MemberStore for Sqlite {
    async fn create_member(
        &self,
        tenant: &TenantSlug,
        user: &User,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (user, hash) = (user.clone(), password_hash.map(str::to_owned));
        self.write(tenant, move |db| {
            let sql = "INSERT INTO member (id, username, password_hash, created_at) VALUES (?1, ?2, ?3, ?4) \
                       ON CONFLICT DO NOTHING";
            Ok(db.prepare_cached(sql)?.execute(params![user.id, user.username, hash, at])? == 1)
        })
        .await
    }

    async fn member(&self, tenant: &TenantSlug, id: &UserId) -> Result<Option<User>, StoreError> {
        let id = id.clone();
        self.read(tenant, move |db| find(db, &id)).await
    }

    async fn credentials(&self, tenant: &TenantSlug, username: &Username) -> Result<Option<Credentials>, StoreError> {
        let username = username.clone();
        self.read(tenant, move |db| {
            db.prepare_cached("SELECT id, username, password_hash FROM member WHERE username = ?1")?
                .query_row([username], |row| {
                    Ok(Credentials { user: rows::user(row)?, password_hash: row.get("password_hash")? })
                })
                .optional()
        })
        .await
    }

    async fn spend_refresh(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        family: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (jti, family) = (jti.to_owned(), family.to_owned());
        self.write(tenant, move |db| {
            let tokens = "DELETE FROM spent_refresh WHERE jti IN (
                              SELECT jti FROM spent_refresh WHERE expires_at < ?1 AND jti <> ?2 ORDER BY expires_at LIMIT 100)";
            db.prepare_cached(tokens)?.execute(params![now, jti])?;
            let families = "DELETE FROM revoked_family WHERE family IN (
                                SELECT family FROM revoked_family WHERE expires_at < ?1 AND family <> ?2
                                ORDER BY expires_at LIMIT 100)";
            db.prepare_cached(families)?.execute(params![now, family])?;
            let spend = "INSERT INTO spent_refresh (jti, family, expires_at)
                         SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM revoked_family WHERE family = ?2)
                         ON CONFLICT DO NOTHING";
            if db.prepare_cached(spend)?.execute(params![jti, family, expires_at])? == 1 {
                return Ok(true);
            }
            let revoke = "INSERT INTO revoked_family (family, expires_at) VALUES (?1, ?2)
                          ON CONFLICT (family) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)";
            db.prepare_cached(revoke)?.execute(params![family, expires_at.plus(REVOCATION_KEPT)])?;
            Ok(false)
        }).await
    }
}

pub(super) fn find(db: &Connection, id: &UserId) -> Result<Option<User>> {
    db.prepare_cached("SELECT id, username FROM member WHERE id = ?1")?.query_row([id], rows::user).optional()
}
