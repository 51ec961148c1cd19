//! The keys that may sign tokens, each bound to one algorithm.

use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};

use super::{AuthError, Claims};
use crate::config::Secret;

/// More keys than any issuer publishes. A token without a key id is tried against all of them.
const MAX_KEYS: usize = 16;

/// Longer than any token. A longer text is refused unread.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("failed to read the key set {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is not a key set, or contains a key that cannot be used.
    #[error("failed to use the key set {path}: {reason}")]
    Content {
        path: PathBuf,
        /// What is wrong with it, in one line.
        reason: String,
    },
}

/// The shared secret and external issuers' public keys. Each key fixes its algorithm; the algorithm in a token's header
/// must match and selects nothing.
pub struct Keys {
    secret: Secret,
    public: Vec<PublicKey>,
}

struct PublicKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("public", &self.public.len()).finish_non_exhaustive()
    }
}

impl Keys {
    pub fn new(secret: Secret, jwks_file: Option<&Path>) -> Result<Self, KeyError> {
        let public = jwks_file.map_or(Ok(Vec::new()), read_jwks)?;
        Ok(Self { secret, public })
    }

    /// The claims of a token with a valid signature. Nothing else has been checked.
    pub fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        let key_id = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid)?.kid;
        let shared = DecodingKey::from_secret(self.secret.reveal().as_bytes());
        let mut named = self.public.iter().filter(|key| key_id.is_none() || key.id.is_none() || key.id == key_id);
        if let Some(claims) = signed(token, Algorithm::HS256, &shared) {
            return Ok(Claims { shared: true, ..claims });
        }
        named.find_map(|key| signed(token, key.algorithm, &key.key)).ok_or(AuthError::Invalid)
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, AuthError> {
        let key = EncodingKey::from_secret(self.secret.reveal().as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key).map_err(|_| AuthError::Invalid)
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

fn read_jwks(path: &Path) -> Result<Vec<PublicKey>, KeyError> {
    let refused = |reason: String| KeyError::Content { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
    let set: JwkSet = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
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
