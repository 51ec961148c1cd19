//! The keys that tokens may be signed with, each bound to its one algorithm.

use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};

use super::{AuthError, Claims};
use crate::config::Secret;

/// More keys than any issuer publishes; a token without a key id is tried against all of them.
const MAX_KEYS: usize = 16;

/// Longer than any token; a longer text is refused unread.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why the keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("failed to read the key set {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no key set, or holds a key that cannot be used.
    #[error("failed to use the key set {path}: {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The shared secret and the public keys of external issuers. An algorithm belongs to a key; what a token's header asks
/// for is compared with it and chooses nothing.
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
    /// A shared secret, and the key set in a file if there is one.
    pub fn new(secret: Secret, jwks_file: Option<&Path>) -> Result<Self, KeyError> {
        let public = jwks_file.map_or(Ok(Vec::new()), read_jwks)?;
        Ok(Self { secret, public })
    }

    /// The claims of a token whose signature is good. Nothing else of it has been checked.
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

    /// Signs claims with the shared secret.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, AuthError> {
        let key = EncodingKey::from_secret(self.secret.reveal().as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key).map_err(|_| AuthError::Invalid)
    }
}

fn signed(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Option<Claims> {
    let mut validation = Validation::new(algorithm);
    // Time, audience and issuer are checked by the caller, on its own clock and by its own settings. An `exp` is needed
    // for the claims to read.
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
        return Err(refused(format!("it holds {} keys; 1 to {MAX_KEYS} are expected", set.keys.len())));
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
        _ => return Err(format!("key {name} is none of RSA, P-256 and Ed25519; a shared secret is no public key")),
    };
    let named = match jwk.common.key_algorithm {
        None => by_form,
        Some(KeyAlgorithm::RS256) => Algorithm::RS256,
        Some(KeyAlgorithm::ES256) => Algorithm::ES256,
        Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
        Some(other) => return Err(format!("key {name} is for {other:?}; RS256, ES256 and EdDSA are taken")),
    };
    if named != by_form {
        return Err(format!("key {name} says it is for {named:?} but has the form of {by_form:?}"));
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("key {name}: {error}"))?;
    Ok(PublicKey { id, algorithm: named, key })
}
