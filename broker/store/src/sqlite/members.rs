//! The members of a tenant and their refresh tokens. It compares no password.

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::rows;
use crate::{Credentials, REVOCATION_KEPT};
use switchboard_model::{Timestamp, User, UserId, Username};

pub(super) fn create(db: &Connection, user: &User, password_hash: Option<&str>, at: Timestamp) -> Result<bool> {
    let sql = "INSERT INTO member (id, username, password_hash, created_at) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT DO NOTHING";
    Ok(db.prepare_cached(sql)?.execute(params![user.id, user.username, password_hash, at])? == 1)
}

pub(super) fn find(db: &Connection, id: &UserId) -> Result<Option<User>> {
    db.prepare_cached("SELECT id, username FROM member WHERE id = ?1")?.query_row([id], rows::user).optional()
}

pub(super) fn credentials(db: &Connection, username: &Username) -> Result<Option<Credentials>> {
    db.prepare_cached("SELECT id, username, password_hash FROM member WHERE username = ?1")?
        .query_row([username], |row| {
            Ok(Credentials { user: rows::user(row)?, password_hash: row.get("password_hash")? })
        })
        .optional()
}

pub(super) fn spend_refresh(
    db: &Connection,
    jti: &str,
    family: &str,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<bool> {
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
}
