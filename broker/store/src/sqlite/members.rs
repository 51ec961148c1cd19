//! A tenant's members and their tokens. Passwords are compared elsewhere.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::Sqlite;
use super::rows;
use crate::{
    Bearer, Credentials, KnownBearer, MemberStore, REFRESH_GRACE, REVOCATION_KEPT, RefreshUse, Renamed, StoreError,
    Successor,
};
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
            db.prepare_cached("SELECT id, username, state, password_hash FROM member WHERE username = ?1")?
                .query_row([username], |row| {
                    let (state, password_hash) = (row.get("state")?, row.get("password_hash")?);
                    Ok(Credentials { user: rows::user(row)?, state, password_hash })
                })
                .optional()
        })
        .await
    }

    async fn bearers(&self, tenant: &TenantSlug, bearers: &[Bearer]) -> Result<Vec<Option<KnownBearer>>, StoreError> {
        let bearers = bearers.to_vec();
        self.read(tenant, move |db| {
            let mut find = db.prepare_cached(BEARER)?;
            let one = |Bearer { user, token }: &Bearer| {
                find.query_row(params![user, token.jti, token.family], bearer).optional()
            };
            bearers.iter().map(one).collect()
        })
        .await
    }

    async fn spend_refresh(&self, tenant: &TenantSlug, used: &RefreshUse<'_>) -> Result<Option<Successor>, StoreError> {
        let (jti, family) = (used.jti.to_owned(), used.family.to_owned());
        let fresh = Successor { jti: used.successor.to_owned(), at: used.now };
        let (expires_at, now) = (used.expires_at, used.now);
        let spent = self.write(tenant, move |db| spend(db, &jti, &family, fresh, expires_at, now)).await?;
        if spent.is_none() {
            self.dismiss(tenant, |_| Ok(true)).await?;
        }
        Ok(spent)
    }

    async fn revoke_family(&self, tenant: &TenantSlug, family: &str, until: Timestamp) -> Result<(), StoreError> {
        let family = family.to_owned();
        self.dismiss(tenant, move |db| revoke(db, &family, until).map(|()| true)).await.map(drop)
    }

    async fn revoke_token(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let jti = jti.to_owned();
        self.dismiss(tenant, move |db| {
            let forget = "DELETE FROM revoked_token WHERE jti IN (
                              SELECT jti FROM revoked_token WHERE expires_at < ?1 AND jti <> ?2 ORDER BY expires_at LIMIT 100)";
            db.prepare_cached(forget)?.execute(params![now, jti])?;
            let revoke = "INSERT INTO revoked_token (jti, expires_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            db.prepare_cached(revoke)?.execute(params![jti, until])?;
            Ok(true)
        })
        .await
        .map(drop)
    }

    async fn set_member_enabled(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        enabled: bool,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (from, to) = if enabled { ("disabled", "active") } else { ("active", "disabled") };
        let id = id.clone();
        self.dismiss(tenant, move |db| {
            let sql = "UPDATE member SET state = ?3, tokens_since = ?4 WHERE id = ?1 AND state = ?2";
            Ok(db.prepare_cached(sql)?.execute(params![id, from, to, at])? == 1)
        })
        .await
    }

    async fn delete_member(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        name: &Username,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (id, name) = (id.clone(), name.clone());
        self.dismiss(tenant, move |db| {
            let change = "UPDATE member SET state = 'deleted', username = ?2, password_hash = NULL, tokens_since = ?3,
                              named_at = ?3
                          WHERE id = ?1 AND state <> 'deleted'";
            let changed = db.prepare_cached(change)?.execute(params![id, name, at])? == 1;
            if changed {
                db.prepare_cached("DELETE FROM channel_member WHERE user_id = ?1")?.execute([id])?;
            }
            Ok(changed)
        })
        .await
    }

    async fn rename_member(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        name: &Username,
        at: Timestamp,
        ends_tokens: bool,
    ) -> Result<Renamed, StoreError> {
        let (id, name) = (id.clone(), name.clone());
        let renamed = self.write(tenant, move |db| rename(db, &id, &name, at, ends_tokens)).await?;
        if ends_tokens && renamed == Renamed::Yes {
            self.dismiss(tenant, |_| Ok(true)).await?;
        }
        Ok(renamed)
    }

    async fn set_password(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (id, hash) = (id.clone(), password_hash.map(str::to_owned));
        self.dismiss(tenant, move |db| {
            let sql = "UPDATE member SET password_hash = ?2, tokens_since = ?3 WHERE id = ?1 AND state <> 'deleted'";
            Ok(db.prepare_cached(sql)?.execute(params![id, hash, at])? == 1)
        })
        .await
    }
}

pub(super) fn find(db: &Connection, id: &UserId) -> Result<Option<User>> {
    db.prepare_cached("SELECT id, username FROM member WHERE id = ?1")?.query_row([id], rows::user).optional()
}

const BEARER: &str = "
SELECT id, username, state, tokens_since, coalesce(named_at, created_at) AS named_at,
       EXISTS (SELECT 1 FROM revoked_token WHERE jti = ?2)
           OR EXISTS (SELECT 1 FROM revoked_family WHERE family = ?3) AS is_revoked,
       EXISTS (SELECT 1 FROM spent_refresh WHERE jti = ?2) AS is_spent
FROM member WHERE id = ?1";

fn bearer(row: &Row<'_>) -> Result<KnownBearer> {
    Ok(KnownBearer {
        user: rows::user(row)?,
        state: row.get("state")?,
        tokens_since: row.get("tokens_since")?,
        named_at: row.get("named_at")?,
        is_revoked: row.get("is_revoked")?,
        is_spent: row.get("is_spent")?,
    })
}

fn spend(
    db: &Connection,
    jti: &str,
    family: &str,
    fresh: Successor,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<Option<Successor>> {
    let tokens = "DELETE FROM spent_refresh WHERE jti IN (
                      SELECT jti FROM spent_refresh WHERE expires_at < ?1 AND jti <> ?2 ORDER BY expires_at LIMIT 100)";
    db.prepare_cached(tokens)?.execute(params![now, jti])?;
    let families = "DELETE FROM revoked_family WHERE family IN (
                        SELECT family FROM revoked_family WHERE expires_at < ?1 AND family <> ?2
                        ORDER BY expires_at LIMIT 100)";
    db.prepare_cached(families)?.execute(params![now, family])?;
    let spend = "INSERT INTO spent_refresh (jti, family, expires_at, successor, spent_at)
                 SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM revoked_family WHERE family = ?2)
                 ON CONFLICT DO NOTHING";
    if db.prepare_cached(spend)?.execute(params![jti, family, expires_at, fresh.jti, fresh.at])? == 1 {
        return Ok(Some(fresh));
    }
    // Used again by whoever has no answer yet. A token of which the first use is not noted (from before successors were)
    // counts as used for the second time.
    let again = "SELECT successor, spent_at FROM spent_refresh s
                 WHERE jti = ?1 AND spent_at > ?2
                   AND NOT EXISTS (SELECT 1 FROM spent_refresh n WHERE n.jti = s.successor)
                   AND NOT EXISTS (SELECT 1 FROM revoked_family f WHERE f.family = ?3)";
    let same = db
        .prepare_cached(again)?
        .query_row(params![jti, now.minus(REFRESH_GRACE), family], |row| {
            Ok(Successor { jti: row.get("successor")?, at: row.get("spent_at")? })
        })
        .optional()?;
    if same.is_none() {
        revoke(db, family, expires_at)?;
    }
    Ok(same)
}

/// Ends every token of a log-in, of which the last would have ended at `until`.
fn revoke(db: &Connection, family: &str, until: Timestamp) -> Result<()> {
    let revoke = "INSERT INTO revoked_family (family, expires_at) VALUES (?1, ?2)
                  ON CONFLICT (family) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)";
    db.prepare_cached(revoke)?.execute(params![family, until.plus(REVOCATION_KEPT)]).map(drop)
}

fn rename(db: &Connection, id: &UserId, name: &Username, at: Timestamp, ends_tokens: bool) -> Result<Renamed> {
    let taken = "SELECT EXISTS (SELECT 1 FROM member WHERE username = ?1 AND id <> ?2)";
    if db.prepare_cached(taken)?.query_row(params![name, id], |row| row.get(0))? {
        let known = "SELECT EXISTS (SELECT 1 FROM member WHERE id = ?1 AND state <> 'deleted')";
        let is_known: bool = db.prepare_cached(known)?.query_row([id], |row| row.get(0))?;
        return Ok(if is_known { Renamed::Taken } else { Renamed::Unknown });
    }
    let sql = "UPDATE member SET username = ?2, named_at = ?3, tokens_since = iif(?4, ?3, tokens_since)
               WHERE id = ?1 AND state <> 'deleted'";
    let changed = db.prepare_cached(sql)?.execute(params![id, name, at, ends_tokens])?;
    Ok(if changed == 1 { Renamed::Yes } else { Renamed::Unknown })
}
