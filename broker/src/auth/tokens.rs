//! Validates tokens (time, type, issuer, audience) and issues the broker's own.

use std::time::Duration;

use serde::Serialize;

use super::{AuthError, Claims, ISSUER, Keys, TokenType};
use crate::model::{Clock, Tenant, Timestamp, User};

/// The answer to a log-in or a refresh.
#[derive(Debug, Serialize)]
pub struct Pair {
    pub access: String,
    pub refresh: String,
}

#[derive(Debug)]
pub struct Tokens {
    keys: Keys,
    clock: Clock,
    issuer: Option<String>,
    audience: Option<String>,
    access_ttl: Duration,
    refresh_ttl: Duration,
}

impl Tokens {
    pub fn new(keys: Keys, config: &crate::config::Auth, clock: Clock) -> Self {
        Self {
            keys,
            clock,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
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
        let early = claims.nbf.is_some_and(|from| from > now.seconds());
        let foreign = claims.is_external()
            && (self.issuer.as_ref().is_some_and(|issuer| claims.iss.as_ref() != Some(issuer))
                || self.audience.as_ref().is_some_and(|audience| !claims.is_for(audience)));
        if early || foreign { Err(AuthError::Invalid) } else { Ok(claims) }
    }

    /// A new access token, valid for `ttl` or else for the configured time.
    pub fn access(&self, tenant: &Tenant, user: &User, ttl: Option<Duration>) -> Result<String, AuthError> {
        self.keys.sign(&self.claims(tenant, user, TokenType::Access, ttl.unwrap_or(self.access_ttl)))
    }

    /// A new pair. `family` is that of the refresh token being replaced; `None` starts a family.
    pub fn pair(&self, tenant: &Tenant, user: &User, family: Option<String>) -> Result<Pair, AuthError> {
        let mut refresh = self.claims(tenant, user, TokenType::Refresh, self.refresh_ttl);
        refresh.family = family.or_else(|| refresh.jti.clone());
        Ok(Pair { access: self.access(tenant, user, None)?, refresh: self.keys.sign(&refresh)? })
    }

    /// Until when a spent refresh token must be remembered: as long as any token of its family could live.
    pub fn remember_until(&self, claims: &Claims) -> Timestamp {
        claims.expires_at().max(self.clock.now().plus(self.refresh_ttl))
    }

    fn claims(&self, tenant: &Tenant, user: &User, token_type: TokenType, ttl: Duration) -> Claims {
        let now = self.clock.now();
        Claims {
            token_type,
            exp: now.plus(ttl).seconds(),
            iat: Some(now.seconds()),
            nbf: None,
            jti: Some(hex::encode(self.clock.random::<16>())),
            user_id: user.id.clone(),
            tenant_id: Some(tenant.external_id.clone().unwrap_or_else(|| tenant.slug.to_string())),
            schema_name: Some(tenant.slug.to_string()),
            username: Some(user.username.clone()),
            iss: Some(ISSUER.to_owned()),
            aud: None,
            family: None,
            shared: true,
        }
    }
}
