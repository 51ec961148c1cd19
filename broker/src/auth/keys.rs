//! The keys that may sign tokens, each bound to one algorithm.
//!
//! Invariant: the key determines the algorithm, the tenants and the issuer of a token. Nothing in a token's header selects
//! anything but which key to try first, and a header that asks for more than this program does is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use serde_json::{Map, Value};
use sha2::Sha256;
use tokio::sync::Notify;

use super::{AuthError, Claims};
use crate::config::{Auth, KeyBinding, Secret};
use crate::model::TenantSlug;

/// More keys than any issuer publishes. A token without a key id is tried against all of them.
const MAX_KEYS: usize = 16;

/// Longer than any token. A longer text is refused unread.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a header may not have: an extension that must be understood, compression, encryption, a payload that is not encoded.
const NOT_UNDERSTOOD: &[&str] = &["crit", "zip", "enc", "b64"];

/// What the fingerprint of a secret is derived for.
const FINGERPRINT: &[u8] = b"switchboard: fingerprint of a secret";

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("failed to read the key set {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is not a key set, or contains a key that cannot be used.
    #[error("failed to use the key set {from}: {reason}")]
    Content {
        /// The file or the address.
        from: String,
        /// What is wrong with it, in one line.
        reason: String,
    },
}

/// The shared secrets and external issuers' public keys. Each key fixes its algorithm; the algorithm in a token's header
/// must match and selects nothing.
pub struct Keys {
    secret: Secret,
    /// Verifies, and signs nothing.
    previous: Option<Secret>,
    file: ArcSwap<Vec<PublicKey>>,
    fetched: ArcSwap<Vec<PublicKey>>,
    bindings: Vec<KeyBinding>,
    /// Notified when a token names a key that is not here.
    missing: Notify,
}

pub(super) struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// The keys of the settings. The key set at `--jwks-url` is added once it is fetched.
    pub fn new(secret: Secret, config: &Auth) -> Result<Self, KeyError> {
        let file = config.jwks_file.as_deref().map_or(Ok(Vec::new()), read_file)?;
        Ok(Self {
            previous: config.previous_secret.clone(),
            file: ArcSwap::from_pointee(file),
            bindings: config.key_bindings.clone(),
            ..Self::of(secret)
        })
    }

    /// The shared secret alone, to sign with.
    pub fn of(secret: Secret) -> Self {
        Self {
            secret,
            previous: None,
            file: ArcSwap::default(),
            fetched: ArcSwap::default(),
            bindings: Vec::new(),
            missing: Notify::new(),
        }
    }

    /// The claims of a token with a valid signature, by a key that is bound to nothing else. Time and audience have not been
    /// checked, nor whether the tenant is among [`Claims::tenants`].
    pub fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        let named = key_id(token)?;
        for secret in std::iter::once(&self.secret).chain(&self.previous) {
            let shared = DecodingKey::from_secret(secret.reveal().as_bytes());
            if let Some(claims) = signed(token, Algorithm::HS256, &shared) {
                return Ok(Claims { shared: true, ..claims });
            }
        }
        let (file, fetched) = (self.file.load(), self.fetched.load());
        let is_meant = |key: &&PublicKey| named.is_none() || key.id.is_none() || key.id == named;
        let mut tried = file.iter().chain(fetched.iter()).filter(is_meant).peekable();
        if tried.peek().is_none() {
            self.missing.notify_one();
        }
        let found = tried.find_map(|key| signed(token, key.algorithm, &key.key).map(|claims| (key, claims)));
        let (key, claims) = found.ok_or(AuthError::Invalid)?;
        self.bound(key.id.as_deref(), claims)
    }

    /// Holds a token to what its key is for.
    fn bound(&self, key: Option<&str>, mut claims: Claims) -> Result<Claims, AuthError> {
        for binding in self.bindings.iter().filter(|binding| Some(binding.key.as_str()) == key) {
            if binding.issuer.is_some() && binding.issuer != claims.iss {
                return Err(AuthError::Invalid);
            }
            if !binding.tenants.is_empty() {
                claims.tenants = Some(Arc::<[TenantSlug]>::from(binding.tenants.as_slice()));
            }
        }
        Ok(claims)
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, AuthError> {
        let key = EncodingKey::from_secret(self.secret.reveal().as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key).map_err(|_| AuthError::Invalid)
    }

    /// What tells the secrets of two nodes apart without revealing them: the one that signs, then the one that only verifies.
    pub fn fingerprint(&self) -> String {
        let all: Vec<String> = std::iter::once(&self.secret).chain(&self.previous).map(fingerprint).collect();
        all.join(" ")
    }

    /// Whether this node and one with that fingerprint accept each other's tokens.
    pub fn agrees_with(&self, other: &str) -> bool {
        let ours = self.fingerprint();
        let signs = |node: &str| node.split(' ').next().unwrap_or_default().to_owned();
        let has = |node: &str, secret: &str| node.split(' ').any(|known| known == secret);
        has(other, &signs(&ours)) && has(&ours, &signs(other))
    }

    pub(super) fn replace_file(&self, keys: Vec<PublicKey>) {
        self.file.store(Arc::new(keys));
    }

    pub(super) fn replace_fetched(&self, keys: Vec<PublicKey>) {
        self.fetched.store(Arc::new(keys));
    }

    /// Returns once a token has named a key that is not here.
    pub(super) async fn is_missing_one(&self) {
        self.missing.notified().await;
    }
}

fn fingerprint(secret: &Secret) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("an HMAC takes a key of any length");
    mac.update(FINGERPRINT);
    hex::encode(&mac.finalize().into_bytes()[..8])
}

/// The key that a token names in its header.
fn key_id(token: &str) -> Result<Option<String>, AuthError> {
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(AuthError::Invalid);
    };
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).map_err(|_| AuthError::Invalid)?;
    let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| AuthError::Invalid)?;
    if NOT_UNDERSTOOD.iter().any(|name| header.contains_key(*name)) {
        return Err(AuthError::Invalid);
    }
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(_) => Err(AuthError::Invalid),
    }
}

fn signed(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Option<Claims> {
    let mut validation = Validation::new(algorithm);
    // The caller checks time, audience and issuer, with its own clock and settings. A missing `exp` makes the claims
    // unreadable.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<Claims>(token, key, &validation).ok().map(|data| data.claims)
}

pub(super) fn read_file(path: &Path) -> Result<Vec<PublicKey>, KeyError> {
    let text = std::fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    parse_set(&path.display().to_string(), &text)
}

/// The keys of a key set that comes from a file or an address.
pub(super) fn parse_set(from: &str, text: &[u8]) -> Result<Vec<PublicKey>, KeyError> {
    let refused = |reason: String| KeyError::Content { from: from.to_owned(), reason };
    let set: JwkSet = serde_json::from_slice(text).map_err(|error| refused(error.to_string()))?;
    if set.keys.is_empty() || set.keys.len() > MAX_KEYS {
        return Err(refused(format!("it has {} keys; it must have 1 to {MAX_KEYS}", set.keys.len())));
    }
    set.keys.iter().map(|jwk| public_key(jwk).map_err(&refused)).collect()
}

fn public_key(jwk: &Jwk) -> Result<PublicKey, String> {
    let id = jwk.common.key_id.clone();
    let name = id.as_deref().unwrap_or("without a kid");
    let by_form = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return Err(format!("key {name} is not RSA, P-256 or Ed25519; a shared secret is not a public key")),
    };
    let named = match jwk.common.key_algorithm {
        None => by_form,
        Some(KeyAlgorithm::RS256) => Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => Algorithm::ES256,
        Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
        Some(other) => return Err(format!("key {name} is for {other:?}; it must be for RS256, ES256 or EdDSA")),
    };
    if named != by_form {
        return Err(format!("key {name} declares {named:?} but has the form of {by_form:?}"));
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("key {name}: {error}"))?;
    Ok(PublicKey { id, algorithm: named, key })
}
