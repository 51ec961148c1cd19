//! Tokens and passwords: what proves who someone is.
//!
//! Pure checks against keys that were read at the start. Whether the tenant and the member exist is not known here; see
//! [`crate::identity`].

mod attempts;
mod claims;
mod keys;
mod passwords;
mod tokens;

pub use attempts::{Attempts, TooMany};
pub use claims::{Claims, ISSUER, TokenType};
pub use keys::{KeyError, Keys};
pub use passwords::Passwords;
pub use tokens::{Pair, Tokens};

/// Why a token or a password proves nothing. Clients are told one text for all of them but the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Malformed, signed by nobody known, or with claims that do not read.
    #[error("failed to accept the token: it is not valid")]
    Invalid,
    /// Past its `exp`.
    #[error("failed to accept the token: it has expired")]
    Expired,
    /// An access token where a refresh token belongs, or the other way round.
    #[error("failed to accept the token: it is of the wrong type")]
    WrongType,
    /// Too many passwords are being checked.
    #[error("failed to check the password: too many log-ins are under way")]
    Busy,
    /// The hash could not be made.
    #[error("failed to hash the password")]
    Hash,
}

#[cfg(test)]
mod tests;
