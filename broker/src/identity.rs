//! Identifies the member of a tenant behind a token or a password.
//!
//! [`crate::auth`] checks the token; this finds the tenant and member that it names, or creates the member. Every
//! refusal is the same error, so that nobody learns which tenants and members exist.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Attempts, AuthError, Claims, Pair, Passwords, TokenType, Tokens};
use crate::model::{ClientAddress, Clock, Principal, Tenant, TenantSlug, User, Username};
use crate::store::{Store, StoreError};

/// When a log-in that was refused for lack of room may be tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The token or password is wrong, or names an unknown tenant or member.
    #[error("failed to identify the bearer")]
    Refused,
    /// Too many log-ins are under way or were tried. Not before this time.
    #[error("failed to identify the bearer: too many log-ins")]
    Busy(Duration),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Identity {
    tokens: Tokens,
    passwords: Passwords,
    attempts: Attempts,
    store: Arc<dyn Store>,
    auto_provision: bool,
    clock: Clock,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    pub fn new(
        tokens: Tokens,
        passwords: Passwords,
        store: Arc<dyn Store>,
        auto_provision: bool,
        clock: Clock,
    ) -> Self {
        Self { tokens, passwords, attempts: Attempts::default(), store, auto_provision, clock }
    }

    /// The bearer of an access token.
    pub async fn principal(&self, token: &str) -> Result<Principal, IdentityError> {
        let claims = self.tokens.check(token, TokenType::Access)?;
        let (tenant, user) = self.bearer(&claims).await?;
        Ok(Principal { tenant: tenant.slug, user, expires_at: claims.expires_at() })
    }

    /// A token pair for a password. A wrong tenant, name or password takes the same time, and counts as one attempt for
    /// the name and for the address.
    pub async fn log_in(
        &self,
        tenant: &str,
        username: &str,
        password: &str,
        from: ClientAddress,
    ) -> Result<Pair, IdentityError> {
        let (given_tenant, given_name) = (tenant, username);
        self.attempts.take(given_tenant, given_name, from).map_err(|too_many| {
            crate::metrics::LOG_INS_REFUSED.add([too_many.of], 1);
            IdentityError::Busy(too_many.after)
        })?;
        let mut found = None;
        if let (Ok(slug), Ok(name)) = (tenant.parse(), username.parse::<Username>())
            && let Some(tenant) = self.tenant(&slug).await?
        {
            found = self.store.credentials(&tenant.slug, &name).await?.map(|credentials| (tenant, credentials));
        }
        let hash = found.as_ref().and_then(|(_, credentials)| credentials.password_hash.as_deref());
        let good = self.passwords.check(password, hash).await?;
        match found {
            Some((tenant, credentials)) if good => {
                self.attempts.forget(given_tenant, given_name);
                Ok(self.tokens.pair(&tenant, &credentials.user, None)?)
            }
            _ => Err(IdentityError::Refused),
        }
    }

    /// A new pair for a refresh token, which is spent. Reuse of a spent token revokes its whole family.
    pub async fn refresh(&self, token: &str) -> Result<Pair, IdentityError> {
        let claims = self.tokens.check(token, TokenType::Refresh)?;
        let (tenant, user) = self.bearer(&claims).await?;
        let Some(jti) = claims.jti.as_deref() else { return Err(IdentityError::Refused) };
        let family = claims.family.as_deref().unwrap_or(jti);
        let until = self.tokens.remember_until(&claims);
        if self.store.spend_refresh(&tenant.slug, jti, family, until, self.clock.now()).await? {
            Ok(self.tokens.pair(&tenant, &user, Some(family.to_owned()))?)
        } else {
            Err(IdentityError::Refused)
        }
    }

    /// Whether a token of either type is valid right now.
    pub async fn verify(&self, token: &str) -> Result<(), IdentityError> {
        let claims = self.tokens.check_any(token)?;
        self.tenant_of(&claims).await.map(|_| ())
    }

    async fn bearer(&self, claims: &Claims) -> Result<(Tenant, User), IdentityError> {
        let tenant = self.tenant_of(claims).await?;
        let user = match self.store.member(&tenant.slug, &claims.user_id).await? {
            Some(user) => user,
            None if claims.is_external() && self.auto_provision => self.provision(&tenant, claims).await?,
            None => return Err(IdentityError::Refused),
        };
        Ok((tenant, user))
    }

    /// The slug decides. If the operator recorded the issuer's id for the tenant, both must agree.
    async fn tenant_of(&self, claims: &Claims) -> Result<Tenant, IdentityError> {
        let tenant = match (&claims.schema_name, &claims.tenant_id) {
            (Some(slug), _) => {
                let slug = slug.parse().map_err(|_| IdentityError::Refused)?;
                self.tenant(&slug).await?
            }
            (None, Some(id)) => self.store.tenant_by_external_id(id).await?.filter(|tenant| tenant.enabled),
            (None, None) => None,
        };
        let tenant = tenant.ok_or(IdentityError::Refused)?;
        match (&tenant.external_id, &claims.tenant_id) {
            (Some(known), Some(claimed)) if known != claimed => Err(IdentityError::Refused),
            _ => Ok(tenant),
        }
    }

    async fn tenant(&self, slug: &TenantSlug) -> Result<Option<Tenant>, StoreError> {
        Ok(self.store.tenant(slug).await?.filter(|tenant| tenant.enabled))
    }

    /// Creates the member that an external token names. If the name is taken, the id is appended to it.
    async fn provision(&self, tenant: &Tenant, claims: &Claims) -> Result<User, IdentityError> {
        let id = claims.user_id.clone();
        let plain = match &claims.username {
            Some(name) => name.clone(),
            None => id.as_str().parse().map_err(|_| IdentityError::Refused)?,
        };
        let short: String = plain.as_str().chars().take(80).collect();
        let distinct = format!("{short}#{id}").parse().map_err(|_| IdentityError::Refused)?;
        for username in [plain, distinct] {
            let user = User { id: id.clone(), username };
            if self.store.create_member(&tenant.slug, &user, None, self.clock.now()).await? {
                tracing::info!(tenant = %tenant.slug, "created a member from an external token");
                return Ok(user);
            }
            // Another socket of the same member may have been faster.
            if let Some(user) = self.store.member(&tenant.slug, &id).await? {
                return Ok(user);
            }
        }
        Err(IdentityError::Refused)
    }
}

impl From<AuthError> for IdentityError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Busy => {
                crate::metrics::LOG_INS_REFUSED.add(["at_once"], 1);
                IdentityError::Busy(AGAIN_AFTER)
            }
            _ => IdentityError::Refused,
        }
    }
}
