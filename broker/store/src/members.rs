//! Members of a tenant, and their refresh tokens.

use async_trait::async_trait;
use switchboard_model::{TenantSlug, Timestamp, User, UserId, Username};

use crate::StoreError;

/// A member with the data for a log-in.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub user: User,
    /// An argon2 hash in PHC form; none for a member who can only use tokens.
    pub password_hash: Option<String>,
}

/// Members of a tenant, and their refresh tokens.
#[async_trait]
pub trait MemberStore: Send + Sync + 'static {
    /// Creates a member. `false`: the id or the username is taken.
    async fn create_member(
        &self,
        tenant: &TenantSlug,
        user: &User,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Finds a member by id.
    async fn member(&self, tenant: &TenantSlug, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Finds a member by username, for a log-in.
    async fn credentials(&self, tenant: &TenantSlug, username: &Username) -> Result<Option<Credentials>, StoreError>;

    /// Spends a refresh token, identified by its `jti`. `false`: it was spent before, or its family is revoked; the family
    /// is then revoked for good, so a stolen token ends together with the legitimate one. Rows past their `expires_at` may
    /// be deleted.
    async fn spend_refresh(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        family: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}
