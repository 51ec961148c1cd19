//! Validates tokens (time, type, issuer, audience) and issues the broker's own.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{AuthError, Claims, ISSUER, Keys, TokenType};
use crate::model::{Clock, Tenant, Timestamp, User};

/// The answer to a log-in or a refresh.
#[derive(Debug, Serialize)]
pub struct Pair {
    pub access: String,
    pub refresh: String,
}

/// What a pair of tokens is made from. The same log-in, refresh token and time give the same pair, so that a client whose
/// answer was lost can be given it again.
#[derive(Debug, Clone)]
pub struct Issue {
    /// The log-in that the pair derives from; `None` begins one.
    pub family: Option<String>,
    /// The `jti` of the refresh token.
    pub jti: String,
    pub at: Timestamp,
    /// From when on tokens of the member count.
    pub since: Option<Timestamp>,
}

#[derive(Debug)]
pub struct Tokens {
    keys: Arc<Keys>,
    clock: Clock,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    external_ttl: Duration,
    access_ttl: Duration,
    refresh_ttl: Duration,
}

impl Tokens {
    pub fn new(keys: Arc<Keys>, config: &crate::config::Auth, clock: Clock) -> Self {
        Self {
            keys,
            clock,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
            external_ttl: config.external_ttl,
            access_ttl: config.access_ttl,
            refresh_ttl: config.refresh_ttl,
        }
    }

    /// The claims of a token of this type that is valid right now.
    pub fn check(&self, token: &str, wanted: TokenType) -> Result<Claims, AuthError> {
        let claims = self.check_any(token)?;
        if claims.token_type == wanted { Ok(claims) } else { Err(AuthError::WrongType) }
    }

    /// The claims of a token of either type that is valid right now.
    pub fn check_any(&self, token: &str) -> Result<Claims, AuthError> {
        let claims = self.keys.verify(token)?;
        let now = self.clock.now();
        if claims.expires_at() <= now {
            return Err(AuthError::Expired);
        }
        let latest = now.plus(self.leeway).seconds();
        let is_early = [claims.nbf, claims.iat].into_iter().flatten().any(|from| from > latest);
        let is_foreign = claims.is_external()
            && (is_early
                || self.issuer.as_ref().is_some_and(|issuer| claims.iss.as_ref() != Some(issuer))
                || self.audience.as_ref().is_some_and(|audience| !claims.is_for(audience))
                || self.lives_too_long(&claims, now));
        if is_foreign { Err(AuthError::Invalid) } else { Ok(claims) }
    }

    /// A token without a time of issue is taken for a new one.
    fn lives_too_long(&self, claims: &Claims, now: Timestamp) -> bool {
        let issued = claims.iat.unwrap_or_else(|| now.seconds());
        claims.exp.saturating_sub(issued) > i64::try_from(self.external_ttl.as_secs()).unwrap_or(i64::MAX)
    }

    /// A new access token of no log-in, valid for `ttl` or else for the configured time. `since` is from when on tokens of
    /// the member count.
    pub fn access(
        &self,
        tenant: &Tenant,
        user: &User,
        ttl: Option<Duration>,
        since: Option<Timestamp>,
    ) -> Result<String, AuthError> {
        let issue = Issue { family: None, jti: self.new_jti(), at: self.clock.now(), since };
        self.keys.sign(&claims(tenant, user, TokenType::Access, ttl.unwrap_or(self.access_ttl), &issue))
    }

    /// A pair of tokens.
    pub fn pair(&self, tenant: &Tenant, user: &User, issue: Issue) -> Result<Pair, AuthError> {
        let family = issue.family.unwrap_or_else(|| issue.jti.clone());
        let issue = Issue { family: Some(family), ..issue };
        let refresh = claims(tenant, user, TokenType::Refresh, self.refresh_ttl, &issue);
        let jti = hex::encode(&Sha256::new().chain_update("access").chain_update(&issue.jti).finalize()[..16]);
        let access = claims(tenant, user, TokenType::Access, self.access_ttl, &Issue { jti, ..issue });
        Ok(Pair { access: self.keys.sign(&access)?, refresh: self.keys.sign(&refresh)? })
    }

    /// A `jti` that no other token has.
    pub fn new_jti(&self) -> String {
        hex::encode(self.clock.random::<16>())
    }

    /// Until when a spent refresh token must be remembered: as long as any token of its family could live.
    pub fn remember_until(&self, claims: &Claims) -> Timestamp {
        claims.expires_at().max(self.clock.now().plus(self.refresh_ttl))
    }
}

fn claims(tenant: &Tenant, user: &User, token_type: TokenType, ttl: Duration, issue: &Issue) -> Claims {
    // Whoever dismissed the member may have had a clock that is ahead. A token that is issued afterwards counts.
    let issued = issue.since.map_or(issue.at, |since| since.max(issue.at));
    Claims {
        token_type,
        exp: issued.plus(ttl).seconds(),
        iat: Some(issued.seconds()),
        iat_ms: Some(issued.0),
        nbf: None,
        jti: Some(issue.jti.clone()),
        user_id: user.id.clone(),
        tenant_id: Some(tenant.external_id.clone().unwrap_or_else(|| tenant.slug.to_string())),
        schema_name: Some(tenant.slug.to_string()),
        username: Some(user.username.clone()),
        iss: Some(ISSUER.to_owned()),
        aud: None,
        family: issue.family.clone(),
        shared: true,
        tenants: None,
    }
}
