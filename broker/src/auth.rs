//! Tokens and passwords: proof of who somebody is.
//!
//! Pure checks against keys that were read at start-up. Whether the tenant and member exist is decided in
//! [`crate::identity`].

mod claims;
mod jwks;
mod keys;
mod passwords;
mod tokens;

pub use claims::{Claims, ISSUER, TokenType};
pub use jwks::{KeySetFollower, follow_file};
pub use keys::{KeyError, Keys};
pub use passwords::Passwords;
pub use tokens::{Issue, Pair, Tokens};

/// Why a token or password was not accepted. All but the last two look the same to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Malformed, not signed by a known key, or with unreadable claims.
    #[error("failed to accept the token: it is not valid")]
    Invalid,
    #[error("failed to accept the token: it has expired")]
    Expired,
    /// An access token where a refresh token is needed, or the reverse.
    #[error("failed to accept the token: it has the wrong type")]
    WrongType,
    /// Too many passwords are being checked.
    #[error("failed to check the password: too many log-ins are in progress")]
    Busy,
    #[error("failed to hash the password")]
    Hash,
}

#[cfg(test)]
mod tests;
