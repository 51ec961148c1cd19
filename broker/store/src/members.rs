//! Members of a tenant, and their tokens.

use async_trait::async_trait;
use switchboard_model::{MemberState, TenantSlug, Timestamp, TokenId, User, UserId, Username};

use crate::StoreError;

/// A member with the data for a log-in.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub user: User,
    pub state: MemberState,
    /// An argon2 hash in PHC form; none for a member who can only use tokens.
    pub password_hash: Option<String>,
}

/// Whoever presents a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub user: UserId,
    pub token: TokenId,
}

/// What the store knows of a bearer.
#[derive(Debug, Clone)]
pub struct KnownBearer {
    pub user: User,
    pub state: MemberState,
    /// Tokens issued before this are refused.
    pub tokens_since: Option<Timestamp>,
    /// When the member was given its name.
    pub named_at: Timestamp,
    /// Whether the token, or the log-in that it derives from, was revoked.
    pub is_revoked: bool,
    /// Whether the token is a refresh token that was used.
    pub is_spent: bool,
}

impl KnownBearer {
    /// Whether a token that is valid by itself still counts. `since` is from when on tokens of the tenant count. A token that
    /// does not say when it was issued stops counting at the first dismissal.
    pub fn may_enter(&self, token: &TokenId, since: Option<Timestamp>) -> bool {
        let is_late = |since: Timestamp| token.issued_at.is_some_and(|issued| issued >= since);
        let counts = [self.tokens_since, since].into_iter().flatten().all(is_late);
        self.state == MemberState::Active && !self.is_revoked && counts
    }
}

/// The use of a refresh token.
#[derive(Debug, Clone)]
pub struct RefreshUse<'a> {
    pub jti: &'a str,
    pub family: &'a str,
    /// The `jti` of the refresh token to issue for it.
    pub successor: &'a str,
    /// Until when the use must be remembered.
    pub expires_at: Timestamp,
    pub now: Timestamp,
}

/// The refresh token that was issued for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    pub jti: String,
    /// When it was issued.
    pub at: Timestamp,
}

/// What becomes of a member's new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renamed {
    Yes,
    /// Another member has the name.
    Taken,
    Unknown,
}

/// Members of a tenant, and their tokens.
///
/// Whatever ends a right of a member also makes the tenant's revision grow, so that nodes look at their open sockets.
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

    /// What the store knows of some bearers, in their order; `None` for one who is not a member. The caller passes at most
    /// 500 at once.
    async fn bearers(&self, tenant: &TenantSlug, bearers: &[Bearer]) -> Result<Vec<Option<KnownBearer>>, StoreError>;

    /// Spends a refresh token. The answer is its successor: the one given, or, for a use that is repeated within
    /// [`REFRESH_GRACE`](crate::REFRESH_GRACE) and before that successor was used itself, the one of the first use.
    ///
    /// `None`: it was spent before, or its family is revoked; the family is then revoked for good, so a stolen token ends
    /// together with the legitimate one. Rows past their `expires_at` may be deleted.
    async fn spend_refresh(&self, tenant: &TenantSlug, used: &RefreshUse<'_>) -> Result<Option<Successor>, StoreError>;

    /// Ends every token of a log-in. `until` is when the last of them would have ended anyway.
    async fn revoke_family(&self, tenant: &TenantSlug, family: &str, until: Timestamp) -> Result<(), StoreError>;

    /// Ends a single token. `until` is when it would have ended anyway; rows past theirs at `now` may be deleted.
    async fn revoke_token(
        &self,
        tenant: &TenantSlug,
        jti: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Disables or enables a member, and ends its tokens. `false`: there is no such member, it was deleted, or it is in
    /// that state already.
    async fn set_member_enabled(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        enabled: bool,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Takes a member out of every channel, ends its tokens, and leaves its messages under another name, so that its own
    /// is free again. The id stays taken. `false`: there is no such member.
    async fn delete_member(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        name: &Username,
        at: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Gives a member another name. `ends_tokens` also ends the member's tokens, which carry the old name.
    async fn rename_member(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        name: &Username,
        at: Timestamp,
        ends_tokens: bool,
    ) -> Result<Renamed, StoreError>;

    /// Sets or removes a member's password, and ends its tokens. `false`: there is no such member.
    async fn set_password(
        &self,
        tenant: &TenantSlug,
        id: &UserId,
        password_hash: Option<&str>,
        at: Timestamp,
    ) -> Result<bool, StoreError>;
}
