use std::time::Duration;

use super::*;
use crate::config::{Secret, Settings};
use crate::model::{Clock, Tenant, Timestamp, User};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn tokens(change: impl FnOnce(&mut crate::config::Auth)) -> (Tokens, Clock) {
    let clock = Clock::manual(Timestamp(1_700_000_000_000));
    let mut config = Settings::default().resolve(Some(Secret::new(SECRET))).unwrap().auth;
    change(&mut config);
    let keys = Keys::new(config.jwt_secret.clone().unwrap(), None).unwrap();
    (Tokens::new(keys, &config, clock.clone()), clock)
}

fn acme() -> Tenant {
    Tenant { slug: "acme".parse().unwrap(), external_id: None, enabled: true, created_at: Timestamp(0) }
}

fn alice() -> User {
    User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() }
}

fn signed(claims: serde_json::Value, algorithm: jsonwebtoken::Algorithm) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), &claims, &key).unwrap()
}

fn django(user_id: serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "token_type": "access", "exp": 1_700_000_300, "iat": 1_700_000_000, "jti": "9a1c", "user_id": user_id,
        "tenant_id": 3, "schema_name": "acme",
    })
}

#[test]
fn a_token_of_django_is_taken_with_a_number_or_a_string_for_its_user() {
    let (tokens, _) = tokens(|_| {});
    for (given, read) in [(serde_json::json!(42), "42"), (serde_json::json!("u-42"), "u-42")] {
        let token = signed(django(given), jsonwebtoken::Algorithm::HS256);
        let claims = tokens.check(&token, TokenType::Access).expect("a good token");
        assert_eq!(claims.user_id.as_str(), read);
        assert_eq!((claims.tenant_id.as_deref(), claims.schema_name.as_deref()), (Some("3"), Some("acme")));
        assert!(claims.is_external());
    }
}

#[test]
fn the_brokers_own_tokens_last_as_long_as_configured() {
    let (tokens, clock) = tokens(|_| {});
    let pair = tokens.pair(&acme(), &alice(), None).unwrap();
    assert!(!tokens.check(&pair.access, TokenType::Access).unwrap().is_external());
    assert_eq!(tokens.check(&pair.refresh, TokenType::Access).unwrap_err(), AuthError::WrongType);
    assert_eq!(tokens.check(&pair.access, TokenType::Refresh).unwrap_err(), AuthError::WrongType);
    clock.advance(Duration::from_secs(300));
    assert_eq!(tokens.check(&pair.access, TokenType::Access).unwrap_err(), AuthError::Expired);
    assert!(tokens.check(&pair.refresh, TokenType::Refresh).is_ok());
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(tokens.check(&pair.refresh, TokenType::Refresh).unwrap_err(), AuthError::Expired);
}

#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let (tokens, _) = tokens(|_| {});
    let hs384 = signed(django(1.into()), jsonwebtoken::Algorithm::HS384);
    assert_eq!(tokens.check(&hs384, TokenType::Access).unwrap_err(), AuthError::Invalid);
    let good = signed(django(1.into()), jsonwebtoken::Algorithm::HS256);
    let payload = good.split('.').nth(1).unwrap();
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"] {
        assert_eq!(tokens.check(&format!("{header}.{payload}."), TokenType::Access).unwrap_err(), AuthError::Invalid);
    }
    let mut tampered = good.clone();
    tampered.replace_range(good.len() - 4.., "AAAA");
    assert_eq!(tokens.check(&tampered, TokenType::Access).unwrap_err(), AuthError::Invalid);
    for rubbish in ["", ".", "..", "a.b.c", &"x".repeat(100_000)] {
        assert_eq!(tokens.check(rubbish, TokenType::Access).unwrap_err(), AuthError::Invalid);
    }
}

#[test]
fn a_configured_issuer_and_audience_bind_external_tokens_alone() {
    let (tokens, _) = tokens(|auth| {
        auth.issuer = Some("django".to_owned());
        auth.audience = Some("chat".to_owned());
    });
    let with = |iss: &str, aud: serde_json::Value| {
        let mut claims = django(1.into());
        claims["iss"] = iss.into();
        claims["aud"] = aud;
        tokens.check(&signed(claims, jsonwebtoken::Algorithm::HS256), TokenType::Access)
    };
    assert!(with("django", "chat".into()).is_ok());
    assert!(with("django", serde_json::json!(["mail", "chat"])).is_ok());
    assert!(with("other", "chat".into()).is_err());
    assert!(with("django", "mail".into()).is_err());
    let own = tokens.access(&acme(), &alice(), None).unwrap();
    assert!(tokens.check(&own, TokenType::Access).is_ok());
}

#[test]
fn a_key_set_is_checked_when_it_is_read() {
    let folder = std::env::temp_dir().join(format!("switchboard-jwks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let read = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Keys::new(Secret::new(SECRET), Some(&path)).map(|_| ()).map_err(|error| error.to_string())
    };
    let ed25519 = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(read("good", &format!(r#"{{"keys":[{ed25519}]}}"#)), Ok(()));
    let secret = r#"{"keys":[{"kty":"oct","kid":"s","k":"c2VjcmV0"}]}"#;
    assert!(read("secret", secret).unwrap_err().contains("not a public key"));
    let mislabelled = ed25519.replace("\"kid\"", "\"alg\":\"RS256\",\"kid\"");
    assert!(read("mislabelled", &format!(r#"{{"keys":[{mislabelled}]}}"#)).unwrap_err().contains("form of"));
    assert!(read("empty", r#"{"keys":[]}"#).is_err());
    assert!(read("rubbish", "rubbish").is_err());
    assert!(Keys::new(Secret::new(SECRET), Some(&folder.join("missing"))).is_err());
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_password_is_checked_against_its_hash_and_nobodys_never_matches() {
    let passwords = Passwords::new(Clock::system()).await.unwrap();
    let hash = passwords.hash("correct horse").await.unwrap();
    assert!(hash.starts_with("$argon2id$"));
    assert!(passwords.check("correct horse", Some(&hash)).await.unwrap());
    assert!(!passwords.check("wrong", Some(&hash)).await.unwrap());
    assert!(!passwords.check("nobody's password", None).await.unwrap());
    assert!(!passwords.check("x", Some("rubbish")).await.unwrap());
}

/// An external issuer's private key, generated for the test.
fn private_key(algorithm: jsonwebtoken::Algorithm) -> jsonwebtoken::EncodingKey {
    use ed25519_dalek::pkcs8::EncodePrivateKey as _;
    use rsa::pkcs1::EncodeRsaPrivateKey as _;

    match algorithm {
        jsonwebtoken::Algorithm::RS256 => {
            let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).unwrap();
            jsonwebtoken::EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes())
        }
        jsonwebtoken::Algorithm::ES256 => {
            let key = p256::SecretKey::random(&mut rsa::rand_core::OsRng);
            jsonwebtoken::EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes())
        }
        _ => {
            let key = ed25519_dalek::pkcs8::KeypairBytes { secret_key: Clock::system().random(), public_key: None };
            jsonwebtoken::EncodingKey::from_ed_der(key.to_pkcs8_der().unwrap().as_bytes())
        }
    }
}

#[test]
fn keys_of_a_set_are_told_apart_by_their_id_and_bound_to_their_algorithm() {
    use jsonwebtoken::{Algorithm, Header, jwk::Jwk};

    let issuers: Vec<(Algorithm, jsonwebtoken::EncodingKey)> =
        [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(|name| (name, private_key(name))).into();
    let published: Vec<Jwk> = issuers
        .iter()
        .map(|(algorithm, key)| {
            let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
            jwk.common.key_id = Some(format!("{algorithm:?}"));
            jwk
        })
        .collect();
    let path = std::env::temp_dir().join(format!("switchboard-jwks-{}.json", std::process::id()));
    std::fs::write(&path, serde_json::json!({ "keys": published }).to_string()).unwrap();
    let config = Settings::default().resolve(Some(Secret::new(SECRET))).unwrap().auth;
    let keys = Keys::new(Secret::new(SECRET), Some(&path)).unwrap();
    std::fs::remove_file(path).unwrap();
    let tokens = Tokens::new(keys, &config, Clock::manual(Timestamp(1_700_000_000_000)));

    let by = |algorithm: Algorithm, kid: Option<&str>, key: &jsonwebtoken::EncodingKey| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        let token = jsonwebtoken::encode(&header, &django(7.into()), key).unwrap();
        tokens.check(&token, TokenType::Access).map(|claims| claims.user_id.to_string())
    };
    for (algorithm, key) in &issuers {
        let kid = format!("{algorithm:?}");
        assert_eq!(by(*algorithm, Some(&kid), key), Ok("7".to_owned()), "{kid}");
        assert_eq!(by(*algorithm, None, key), Ok("7".to_owned()), "{kid} without a key id");
        assert_eq!(by(*algorithm, Some(&kid), &private_key(*algorithm)), Err(AuthError::Invalid), "a stranger's {kid}");
        assert_eq!(by(*algorithm, Some("other"), key), Err(AuthError::Invalid), "{kid} under another key id");
    }
    // Public keys are public, so they must not work as a shared secret.
    for jwk in &published {
        let text = serde_json::to_string(jwk).unwrap();
        let forged = jsonwebtoken::EncodingKey::from_secret(text.as_bytes());
        assert_eq!(by(Algorithm::HS256, jwk.common.key_id.as_deref(), &forged), Err(AuthError::Invalid));
    }
    let shared = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    assert_eq!(by(Algorithm::HS256, None, &shared), Ok("7".to_owned()), "the shared secret goes on");
}
