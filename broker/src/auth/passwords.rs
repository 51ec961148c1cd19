//! Password hashes: argon2id with the library's defaults (19 MiB, 2 passes), which are OWASP's.
//!
//! The memory for hashing is reused. Freed after each hash it would stay with the allocator, in as many pieces as there
//! are hashing threads.

use std::sync::Arc;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::AuthError;
use crate::model::Clock;

/// Passwords hashed at once. A storm of log-ins takes at most 19 MiB for each, and leaves processors to connected
/// clients.
const AT_ONCE: usize = 2;

/// Log-ins that may wait for a hashing permit. More are refused as busy.
const WAITING: usize = 64;

/// The most memory a stored hash may ask for, in blocks of 1 KiB. New hashes use the defaults; hashes made with other
/// parameters stay valid up to this.
const MOST_BLOCKS: usize = 64 << 10;

/// Checks passwords off the event loop, a bounded number at a time.
#[derive(Debug)]
pub struct Passwords {
    hashers: Arc<Semaphore>,
    waiting: Semaphore,
    memory: Arc<Memory>,
    /// The hash to compare with for an unknown name, so that it takes as long as a wrong password.
    nobody: String,
    clock: Clock,
}

impl Passwords {
    /// Computes the hash that unknown names are compared with.
    pub async fn new(clock: Clock) -> Result<Self, AuthError> {
        let mut passwords = Self {
            hashers: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(AT_ONCE + WAITING),
            memory: Arc::default(),
            nobody: String::new(),
            clock,
        };
        passwords.nobody = passwords.hash("nobody's password").await?;
        Ok(passwords)
    }

    /// A new hash in PHC format.
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let (password, salt) = (password.to_owned(), self.clock.random::<16>());
        self.hashing(move |memory| hashed(&password, &salt, memory).ok_or(AuthError::Hash)).await?
    }

    /// Whether the password matches the hash. Without a hash it never does, but takes as long.
    pub async fn check(&self, password: &str, hash: Option<&str>) -> Result<bool, AuthError> {
        let known = hash.is_some();
        let (password, hash) = (password.to_owned(), hash.unwrap_or(&self.nobody).to_owned());
        let same = self.hashing(move |memory| is_of(&password, &hash, memory).unwrap_or(false)).await?;
        Ok(known && same)
    }

    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, AuthError> {
        // `_waiting` bounds the queue and `hasher` the hashing. `hasher` moves into the blocking task, so a caller
        // that goes away does not free it early.
        let _waiting = self.waiting.try_acquire().map_err(|_| AuthError::Busy)?;
        let hasher = Arc::clone(&self.hashers).acquire_owned().await.map_err(|_| AuthError::Busy)?;
        let memory = Arc::clone(&self.memory);
        tokio::task::spawn_blocking(move || {
            let done = memory.lend(work);
            drop(hasher);
            done
        })
        .await
        .map_err(|_| AuthError::Hash)
    }
}

/// Buffers for hashing, as many as were ever in use at once.
#[derive(Default)]
struct Memory(Mutex<Vec<Vec<Block>>>);

impl Memory {
    fn lend<T>(&self, work: impl FnOnce(&mut Vec<Block>) -> T) -> T {
        let free = || self.0.lock();
        let mut piece = free().pop().unwrap_or_default();
        let done = work(&mut piece);
        free().push(piece);
        done
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// Hashes a password with the defaults, in PHC format.
fn hashed(password: &str, salt: &[u8], memory: &mut Vec<Block>) -> Option<String> {
    let argon2 = Argon2::default();
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    fill(&argon2, password, salt, &mut output, memory)?;
    let hash = PasswordHash {
        algorithm: Algorithm::default().ident(),
        version: Some(Version::default().into()),
        params: ParamsString::try_from(argon2.params()).ok()?,
        salt: Some(Salt::new(salt).ok()?),
        hash: Some(Output::new(&output).ok()?),
    };
    Some(hash.to_string())
}

/// Whether a PHC hash belongs to this password. `None`: it is malformed or asks for too much memory.
fn is_of(password: &str, hash: &str, memory: &mut Vec<Block>) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let (salt, expected) = (hash.salt?, hash.hash?);
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash).ok()?);
    let mut output = [0; Output::MAX_LENGTH];
    let output = output.get_mut(..expected.len())?;
    fill(&argon2, password, &salt, output, memory)?;
    // Compared in constant time.
    Some(Output::new(output).ok()? == expected)
}

fn fill(argon2: &Argon2<'_>, password: &str, salt: &[u8], output: &mut [u8], memory: &mut Vec<Block>) -> Option<()> {
    let blocks = argon2.params().block_count();
    if blocks > MOST_BLOCKS {
        return None;
    }
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, memory.as_mut_slice()).ok()
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordVerifier;

    use super::*;

    #[tokio::test]
    async fn a_hash_is_one_that_others_know_and_of_one_password() {
        let passwords = Passwords::new(Clock::system()).await.unwrap();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        Argon2::default().verify_password(b"correct horse", hash.as_str()).unwrap();
        assert!(passwords.check("correct horse", Some(&hash)).await.unwrap());
        assert!(!passwords.check("correct horses", Some(&hash)).await.unwrap());
        assert!(!passwords.check("nobody's password", None).await.unwrap(), "nobody logs in");
        for damaged in ["", "$argon2id$v=19$m=19456,t=2,p=1$", "plain", &hash.replace("m=19456", "m=4000000")] {
            assert!(!passwords.check("correct horse", Some(damaged)).await.unwrap(), "{damaged}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_ask_the_memory_of_a_few_is_kept() {
        let passwords = Passwords::new(Clock::system()).await.unwrap();
        let answers = (0..12).map(|_| passwords.check("wrong", None));
        for answer in futures_util::future::join_all(answers).await {
            assert!(!answer.unwrap());
        }
        let kept: Vec<usize> = passwords.memory.0.lock().iter().map(Vec::len).collect();
        assert!((1..=AT_ONCE).contains(&kept.len()) && kept.iter().all(|blocks| *blocks == 19_456), "{kept:?}");
    }

    /// Hashes made by the library itself, with less memory, are checked in the kept buffer.
    #[tokio::test]
    async fn a_hash_with_other_parameters_is_known() {
        use argon2::password_hash::PasswordHasher;

        let passwords = Passwords::new(Clock::system()).await.unwrap();
        let small = Argon2::new(Algorithm::Argon2i, Version::V0x13, Params::new(64, 3, 2, None).unwrap());
        let hash: PasswordHash = small.hash_password_with_salt(b"correct horse", b"a salt of a test").unwrap();
        assert!(passwords.check("correct horse", Some(&hash.to_string())).await.unwrap());
        assert!(!passwords.check("another", Some(&hash.to_string())).await.unwrap());
    }
}
