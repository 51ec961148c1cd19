//! Password hashes: argon2id with the library's defaults (19 MiB, 2 passes), which are OWASP's.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, password_hash};
use tokio::sync::Semaphore;

use super::AuthError;
use crate::model::Clock;

/// How many passwords are hashed at once, so that a storm of log-ins holds at most 19 MiB each of so many.
const AT_ONCE: usize = 4;

/// How many wait for their turn; beyond it a log-in is refused as busy.
const WAITING: usize = 64;

/// Checks passwords off the event loop, a bounded number at a time.
#[derive(Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    places: Semaphore,
    /// What the password of nobody is compared with, so that an unknown name takes as long as a wrong password.
    nobody: String,
    clock: Clock,
}

impl Passwords {
    /// Makes the hash that unknown names are compared with.
    pub async fn new(clock: Clock) -> Result<Self, AuthError> {
        let mut passwords = Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Semaphore::new(AT_ONCE + WAITING),
            nobody: String::new(),
            clock,
        };
        passwords.nobody = passwords.hash("nobody's password").await?;
        Ok(passwords)
    }

    /// A new hash in PHC form.
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let (password, salt) = (password.to_owned(), self.clock.random::<16>());
        self.in_turn(move || {
            Argon2::default()
                .hash_password_with_salt(password.as_bytes(), &salt)
                .map(|hash: PasswordHash| hash.to_string())
                .map_err(|_: password_hash::Error| AuthError::Hash)
        })
        .await?
    }

    /// Whether this is the password of that hash. No hash is nobody's, and takes as long.
    pub async fn check(&self, password: &str, hash: Option<&str>) -> Result<bool, AuthError> {
        let known = hash.is_some();
        let (password, hash) = (password.to_owned(), hash.unwrap_or(&self.nobody).to_owned());
        let same = self
            .in_turn(move || {
                PasswordHash::new(&hash)
                    .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(known && same)
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, AuthError> {
        let _place = self.places.try_acquire().map_err(|_| AuthError::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| AuthError::Busy)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
        .map_err(|_| AuthError::Hash)
    }
}
