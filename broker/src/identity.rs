//! Identifies the member of a tenant behind a token or a password.
//!
//! [`crate::auth`] checks the token; this finds the tenant and member that it names, or creates the member. Every
//! refusal is the same error, so that nobody learns which tenants and members exist.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{AuthError, Claims, Issue, Pair, Passwords, TokenType, Tokens};
use crate::model::{ClientAddress, Clock, MemberState, Principal, Tenant, TenantSlug, TokenId, User, UserId, Username};
use crate::rates::Rates;
use crate::store::{Bearer, Credentials, KnownBearer, RefreshUse, Renamed, Store, StoreError};

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
    rates: Arc<Rates>,
    store: Arc<dyn Store>,
    policy: Policy,
    clock: Clock,
}

/// What tokens of external issuers may do.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Create the member that they name.
    pub auto_provision: bool,
    /// Be exchanged for tokens of the broker, if they are refresh tokens.
    pub exchange_external: bool,
}

/// A token's tenant, and what the store knows of its member.
struct Found {
    tenant: Tenant,
    member: Option<KnownBearer>,
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
        rates: Arc<Rates>,
        store: Arc<dyn Store>,
        policy: Policy,
        clock: Clock,
    ) -> Self {
        Self { tokens, passwords, rates, store, policy, clock }
    }

    /// The bearer of an access token.
    pub async fn principal(&self, token: &str) -> Result<Principal, IdentityError> {
        let claims = self.tokens.check(token, TokenType::Access)?;
        let (tenant, member) = self.bearer(&claims).await?;
        Ok(Principal {
            tenant: tenant.slug,
            user: member.user,
            expires_at: claims.expires_at(),
            token: claims.token_id(),
            revision: tenant.revision,
        })
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
        self.rates.log_in(given_tenant, given_name, from).map_err(|too_many| {
            let limit = if too_many.scope == "member" { "name" } else { too_many.scope };
            crate::metrics::LOG_INS_REFUSED.add([limit], 1);
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
            Some((tenant, Credentials { user, state: MemberState::Active, .. })) if good => {
                self.rates.forget_log_ins(given_tenant, given_name);
                // Read after the password was checked, which takes a while: what happened meanwhile counts.
                let at = self.clock.now();
                let since =
                    self.known(&tenant, &user.id, TokenId::default()).await?.and_then(|known| known.tokens_since);
                let since = since.max(tenant.tokens_since);
                Ok(self.tokens.pair(&tenant, &user, Issue { family: None, jti: self.tokens.new_jti(), at, since })?)
            }
            _ => Err(IdentityError::Refused),
        }
    }

    /// A new pair for a refresh token, which is spent. Its use again soon afterwards gets the same pair, because the answer
    /// may have been lost; reuse later, or once the successor was used, revokes its whole family.
    pub async fn refresh(&self, token: &str) -> Result<Pair, IdentityError> {
        let claims = self.tokens.check(token, TokenType::Refresh)?;
        if claims.is_external() && !self.policy.exchange_external {
            return Err(IdentityError::Refused);
        }
        let (tenant, member) = self.bearer(&claims).await?;
        let Some(jti) = claims.jti.as_deref() else { return Err(IdentityError::Refused) };
        let family = claims.family.as_deref().unwrap_or(jti);
        let successor = self.tokens.new_jti();
        let (expires_at, now) = (self.tokens.remember_until(&claims), self.clock.now());
        let used = RefreshUse { jti, family, successor: &successor, expires_at, now };
        let Some(successor) = self.store.spend_refresh(&tenant.slug, &used).await? else {
            crate::metrics::REFRESH_REUSED.handle().increment(1);
            tracing::warn!(tenant = %tenant.slug, member = %member.user.id, "a refresh token was used twice; ended its log-in");
            return Err(IdentityError::Refused);
        };
        let since = member.tokens_since.max(tenant.tokens_since);
        let issue = Issue { family: Some(family.to_owned()), jti: successor.jti, at: successor.at, since };
        Ok(self.tokens.pair(&tenant, &member.user, issue)?)
    }

    /// Ends a log-in: every token that derives from it, or else the token alone.
    pub async fn log_out(&self, token: &str, kind: TokenType) -> Result<(), IdentityError> {
        let claims = self.tokens.check(token, kind)?;
        let (tenant, _) = self.bearer(&claims).await?;
        let TokenId { jti, family, .. } = claims.token_id();
        let until = self.tokens.remember_until(&claims);
        match (family, jti) {
            (Some(family), _) => self.store.revoke_family(&tenant.slug, &family, until).await?,
            (None, Some(jti)) => self.store.revoke_token(&tenant.slug, &jti, until, self.clock.now()).await?,
            // Nothing names it.
            (None, None) => return Err(IdentityError::Refused),
        }
        Ok(())
    }

    /// Whether a token of either type is valid right now: not revoked, and not a refresh token that was used.
    pub async fn verify(&self, token: &str) -> Result<(), IdentityError> {
        let claims = self.tokens.check_any(token)?;
        match self.find(&claims).await? {
            Found { member: Some(member), .. } if !member.is_spent => Ok(()),
            Found { member: None, .. } if claims.is_external() && self.policy.auto_provision => Ok(()),
            _ => Err(IdentityError::Refused),
        }
    }

    async fn bearer(&self, claims: &Claims) -> Result<(Tenant, KnownBearer), IdentityError> {
        let Found { tenant, member } = self.find(claims).await?;
        let member = match member {
            Some(member) if claims.is_external() => self.take_name_over(&tenant, member, claims).await?,
            Some(member) => member,
            None if claims.is_external() && self.policy.auto_provision => self.provision(&tenant, claims).await?,
            None => return Err(IdentityError::Refused),
        };
        Ok((tenant, member))
    }

    /// The tenant and member of a token that counts. A dismissed member is refused; an unknown one is not.
    async fn find(&self, claims: &Claims) -> Result<Found, IdentityError> {
        let tenant = self.tenant_of(claims).await?;
        if !claims.may_be_for(&tenant.slug) {
            return Err(IdentityError::Refused);
        }
        let token = claims.token_id();
        let member = self.known(&tenant, &claims.user_id, token.clone()).await?;
        let counts = match &member {
            Some(member) => member.may_enter(&token, tenant.tokens_since),
            None => tenant.tokens_since.is_none_or(|since| token.issued_at.is_some_and(|issued| issued >= since)),
        };
        if counts { Ok(Found { tenant, member }) } else { Err(IdentityError::Refused) }
    }

    async fn known(&self, tenant: &Tenant, user: &UserId, token: TokenId) -> Result<Option<KnownBearer>, StoreError> {
        let bearer = Bearer { user: user.clone(), token };
        Ok(self.store.bearers(&tenant.slug, &[bearer]).await?.pop().flatten())
    }

    /// The issuer knows the member by another name now. A token from before the present name was given does not bring an
    /// older one back. If another member has the name, the present one stays.
    async fn take_name_over(
        &self,
        tenant: &Tenant,
        mut member: KnownBearer,
        claims: &Claims,
    ) -> Result<KnownBearer, IdentityError> {
        let Some(name) = &claims.username else { return Ok(member) };
        let Some(issued) = claims.token_id().issued_at else { return Ok(member) };
        let is_newer = issued > member.named_at;
        let is_same =
            *name == member.user.username || distinct(name, &member.user.id) == Some(member.user.username.clone());
        if is_same || !is_newer {
            return Ok(member);
        }
        if self.store.rename_member(&tenant.slug, &member.user.id, name, issued, false).await? == Renamed::Yes {
            tracing::info!(tenant = %tenant.slug, member = %member.user.id, "took a member's new name over from its token");
            member.user.username = name.clone();
        }
        Ok(member)
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
    async fn provision(&self, tenant: &Tenant, claims: &Claims) -> Result<KnownBearer, IdentityError> {
        let id = claims.user_id.clone();
        let plain = match &claims.username {
            Some(name) => name.clone(),
            None => id.as_str().parse().map_err(|_| IdentityError::Refused)?,
        };
        let distinct = distinct(&plain, &id).ok_or(IdentityError::Refused)?;
        for username in [plain, distinct] {
            let user = User { id: id.clone(), username };
            if self.store.create_member(&tenant.slug, &user, None, self.clock.now()).await? {
                tracing::info!(tenant = %tenant.slug, "created a member from an external token");
            }
            // Another socket of the same member may have been faster.
            let token = claims.token_id();
            if let Some(known) = self.known(tenant, &id, token.clone()).await? {
                let counts = known.may_enter(&token, tenant.tokens_since);
                return if counts { Ok(known) } else { Err(IdentityError::Refused) };
            }
        }
        Err(IdentityError::Refused)
    }
}

/// The name of a member whose own is taken.
fn distinct(name: &Username, id: &UserId) -> Option<Username> {
    let short: String = name.as_str().chars().take(80).collect();
    format!("{short}#{id}").parse().ok()
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
