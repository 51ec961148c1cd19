//! Tokens as a Django application with SimpleJWT makes them, and all the ways in which they can be wrong.
//!
//! They are made here and not by the broker, so that what the broker takes is tested against the form and not against
//! itself.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};
use switchboard::model::Clock;

/// The secret that brokers under test share with this issuer.
pub const SECRET: &str = "a secret of the tests, which is longer than thirty-two bytes";

/// The claims of a token.
#[derive(Debug, Clone)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// An access token for five minutes. The id may be a text or a number: both occur in the wild.
    pub fn access(schema_name: &str, user_id: impl Into<Value>) -> Self {
        let clock = Clock::system();
        let now = clock.now().seconds();
        let claims = json!({
            "token_type": "access",
            "exp": now + 300,
            "iat": now,
            "jti": clock.uuid().simple().to_string(),
            "user_id": user_id.into(),
            "tenant_id": 1,
            "schema_name": schema_name,
        });
        match claims {
            Value::Object(claims) => Self(claims),
            _ => unreachable!("it was written as an object"),
        }
    }

    /// With a claim, instead of the one of that name.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Without a claim.
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// With an end that is this many seconds away; negative: past.
    pub fn ending_in(self, seconds: i64) -> Self {
        let now = Clock::system().now().seconds();
        self.with("iat", now.min(now + seconds - 1)).with("exp", now + seconds)
    }

    /// Signed as the broker expects it.
    pub fn sign(&self) -> String {
        self.sign_with(SECRET, "HS256", Algorithm::HS256)
    }

    /// Signed with any secret and algorithm, under a header that names any algorithm.
    ///
    /// # Panics
    /// When the algorithm needs another kind of key.
    pub fn sign_with(&self, secret: &str, named: &str, algorithm: Algorithm) -> String {
        let message = self.message(named);
        let signature = sign(message.as_bytes(), &EncodingKey::from_secret(secret.as_bytes()), algorithm)
            .expect("a shared secret signs");
        format!("{message}.{signature}")
    }

    /// Not signed at all, under a header that says so in these words.
    pub fn unsigned(&self, named: &str) -> String {
        self.message(named) + "."
    }

    fn message(&self, algorithm: &str) -> String {
        let header = json!({"typ": "JWT", "alg": algorithm});
        format!("{}.{}", encode(&header), encode(&Value::Object(self.0.clone())))
    }
}

/// What a token claims, its signature unchecked.
///
/// # Panics
/// When it is no token.
pub fn payload_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_else(|| panic!("not a token: {token}"));
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("a token's payload is base64url");
    serde_json::from_slice(&bytes).expect("a token's payload is JSON")
}

fn encode(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}
