use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{KeyBinding, Secret, Settings};
use crate::model::{Clock, Tenant, Timestamp, User};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn tokens(change: impl FnOnce(&mut crate::config::Auth)) -> (Tokens, Clock) {
    let clock = Clock::manual(Timestamp(1_700_000_000_000));
    let mut config = Settings::default().resolve(Some(Secret::new(SECRET))).unwrap().auth;
    change(&mut config);
    let keys = Keys::new(config.jwt_secret.clone().unwrap(), &config).unwrap();
    (Tokens::new(Arc::new(keys), &config, clock.clone()), clock)
}

fn acme() -> Tenant {
    Tenant {
        slug: "acme".parse().unwrap(),
        external_id: None,
        enabled: true,
        created_at: Timestamp(0),
        tokens_since: None,
        revision: 0,
    }
}

fn alice() -> User {
    User { id: "7".parse().unwrap(), username: "alice".parse().unwrap() }
}

/// A pair of tokens that is issued now.
fn issue(tokens: &Tokens, family: Option<&str>) -> Issue {
    let at = Timestamp(1_700_000_000_000);
    Issue { family: family.map(str::to_owned), jti: tokens.new_jti(), at, since: None }
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
    let pair = tokens.pair(&acme(), &alice(), issue(&tokens, None)).unwrap();
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
    let own = tokens.access(&acme(), &alice(), None, None).unwrap();
    assert!(tokens.check(&own, TokenType::Access).is_ok());
}

fn with_file(path: PathBuf) -> crate::config::Auth {
    let mut config = Settings::default().resolve(Some(Secret::new(SECRET))).unwrap().auth;
    config.jwks_file = Some(path);
    config
}

#[test]
fn a_header_that_asks_for_more_than_a_signature_is_refused() {
    let (tokens, _) = tokens(|_| {});
    let with = |header: serde_json::Value| {
        use base64::prelude::*;
        let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&django(7.into())));
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        tokens.check(&format!("{message}.{signature}"), TokenType::Access).map(|_| ())
    };
    assert_eq!(with(serde_json::json!({"alg": "HS256"})), Ok(()));
    assert_eq!(with(serde_json::json!({"alg": "HS256", "kid": "x", "typ": "JWT", "cty": "x"})), Ok(()));
    for more in [
        serde_json::json!({"alg": "HS256", "crit": ["exp"]}),
        serde_json::json!({"alg": "HS256", "crit": null}),
        serde_json::json!({"alg": "HS256", "zip": "DEF"}),
        serde_json::json!({"alg": "HS256", "enc": "A256GCM"}),
        serde_json::json!({"alg": "HS256", "b64": false}),
        serde_json::json!({"alg": "HS256", "kid": 7}),
        serde_json::json!(["HS256"]),
    ] {
        assert_eq!(with(more.clone()), Err(AuthError::Invalid), "{more}");
    }
}

#[test]
fn an_issuers_clock_may_be_ahead_a_little_and_its_tokens_may_not_live_for_ever() {
    let (tokens, _) = tokens(|_| {});
    let with = |change: &[(&str, serde_json::Value)]| {
        let mut claims = django(7.into());
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        tokens.check(&signed(claims, jsonwebtoken::Algorithm::HS256), TokenType::Access).map(|_| ())
    };
    let now = 1_700_000_000_i64;
    let days = |days: i64| days * 24 * 60 * 60;
    for (claim, ahead, good) in [("nbf", 10, true), ("nbf", 11, false), ("iat", 10, true), ("iat", 11, false)] {
        assert_eq!(with(&[(claim, (now + ahead).into())]).is_ok(), good, "{claim} {ahead} s ahead");
    }
    assert_eq!(with(&[("exp", (now + days(90)).into())]), Ok(()));
    for exp in [(now + days(90) + 1).into(), i64::MAX.into(), serde_json::json!(1e300)] {
        assert_eq!(with(&[("exp", exp)]), Err(AuthError::Invalid));
    }
    let old = with(&[("iat", (now - days(89)).into()), ("exp", (now + days(2)).into())]);
    assert_eq!(old, Err(AuthError::Invalid), "it lives 91 days");
    assert_eq!(with(&[("iat", serde_json::Value::Null), ("exp", (now + days(89)).into())]), Ok(()));
}

#[test]
fn a_second_secret_verifies_and_does_not_sign() {
    const OTHER: &str = "fedcba98765432100123456789abcdef";
    let (tokens, _) = tokens(|auth| auth.previous_secret = Some(Secret::new(OTHER)));
    let by = |secret: &str| {
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        jsonwebtoken::encode(&header, &django(7.into()), &key).unwrap()
    };
    assert!(tokens.check(&by(OTHER), TokenType::Access).is_ok());
    assert!(tokens.check(&by(SECRET), TokenType::Access).is_ok());
    let own = tokens.access(&acme(), &alice(), None, None).unwrap();
    assert!(Keys::of(Secret::new(SECRET)).verify(&own).is_ok() && Keys::of(Secret::new(OTHER)).verify(&own).is_err());

    let node = |secret: &str, previous: Option<&str>| {
        let mut config = Settings::default().resolve(Some(Secret::new(secret))).unwrap().auth;
        config.previous_secret = previous.map(Secret::new);
        Keys::new(Secret::new(secret), &config).unwrap()
    };
    let agree = |one: &Keys, two: &Keys| {
        assert_eq!(one.agrees_with(&two.fingerprint()), two.agrees_with(&one.fingerprint()));
        one.agrees_with(&two.fingerprint())
    };
    let (old, prepared) = (node(SECRET, None), node(SECRET, Some(OTHER)));
    let (turned, done) = (node(OTHER, Some(SECRET)), node(OTHER, None));
    for (one, two) in [(&old, &old), (&old, &prepared), (&prepared, &turned), (&turned, &done)] {
        assert!(agree(one, two), "each step of a rotation");
    }
    assert!(!agree(&old, &done) && !agree(&old, &turned), "a step that is left out");
    assert!(!old.fingerprint().contains(&SECRET[..8]));
}

#[test]
fn the_same_issue_gives_the_same_pair_and_one_after_a_dismissal_counts() {
    let (tokens, _) = tokens(|_| {});
    let issue = issue(&tokens, Some("f"));
    let one = tokens.pair(&acme(), &alice(), issue.clone()).unwrap();
    let two = tokens.pair(&acme(), &alice(), issue.clone()).unwrap();
    assert_eq!((one.access.clone(), &one.refresh), (two.access, &two.refresh));
    let access = tokens.check(&one.access, TokenType::Access).unwrap();
    let refresh = tokens.check(&one.refresh, TokenType::Refresh).unwrap();
    assert_eq!((access.family.as_deref(), refresh.family.as_deref()), (Some("f"), Some("f")));
    assert_ne!(access.jti, refresh.jti);

    let since = Timestamp(1_700_000_000_001);
    let pair = tokens.pair(&acme(), &alice(), Issue { since: Some(since), ..issue }).unwrap();
    let issued = tokens.check(&pair.access, TokenType::Access).unwrap().token_id().issued_at.unwrap();
    assert_eq!(issued, since, "issued after a dismissal by a clock that is ahead");
}

#[test]
fn a_bad_name_in_a_token_counts_as_none() {
    let (tokens, _) = tokens(|_| {});
    for name in [
        serde_json::json!("\u{202e}eve"),
        serde_json::json!(""),
        serde_json::json!(7),
        serde_json::json!("x".repeat(200)),
    ] {
        let mut claims = django(7.into());
        claims["username"] = name;
        let claims = tokens.check(&signed(claims, jsonwebtoken::Algorithm::HS256), TokenType::Access).unwrap();
        assert_eq!(claims.username, None);
    }
}

#[test]
fn a_key_set_is_checked_when_it_is_read() {
    let folder = std::env::temp_dir().join(format!("switchboard-jwks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let read = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Keys::new(Secret::new(SECRET), &with_file(path)).map(|_| ()).map_err(|error| error.to_string())
    };
    let ed25519 = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(read("good", &format!(r#"{{"keys":[{ed25519}]}}"#)), Ok(()));
    let secret = r#"{"keys":[{"kty":"oct","kid":"s","k":"c2VjcmV0"}]}"#;
    assert!(read("secret", secret).unwrap_err().contains("not a public key"));
    let mislabelled = ed25519.replace("\"kid\"", "\"alg\":\"RS256\",\"kid\"");
    assert!(read("mislabelled", &format!(r#"{{"keys":[{mislabelled}]}}"#)).unwrap_err().contains("form of"));
    assert!(read("empty", r#"{"keys":[]}"#).is_err());
    assert!(read("rubbish", "rubbish").is_err());
    assert!(Keys::new(Secret::new(SECRET), &with_file(folder.join("missing"))).is_err());
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
    let mut config = with_file(path.clone());
    let only = |key: &str, tenants: &[&str], issuer: Option<&str>| KeyBinding {
        key: key.to_owned(),
        tenants: tenants.iter().map(|slug| slug.parse().unwrap()).collect(),
        issuer: issuer.map(str::to_owned),
    };
    config.key_bindings = vec![only("ES256", &["apex"], None), only("EdDSA", &[], Some("https://id.example"))];
    let keys = Keys::new(Secret::new(SECRET), &config).unwrap();
    std::fs::remove_file(path).unwrap();
    let tokens = Tokens::new(Arc::new(keys), &config, Clock::manual(Timestamp(1_700_000_000_000)));

    let claimed = |algorithm: Algorithm, kid: Option<&str>, key: &jsonwebtoken::EncodingKey, iss: &str| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        let mut claims = django(7.into());
        claims["iss"] = iss.into();
        let token = jsonwebtoken::encode(&header, &claims, key).unwrap();
        tokens.check(&token, TokenType::Access)
    };
    let by = |algorithm: Algorithm, kid: Option<&str>, key: &jsonwebtoken::EncodingKey| {
        claimed(algorithm, kid, key, "https://id.example").map(|claims| claims.user_id.to_string())
    };
    let (acme, apex) = ("acme".parse().unwrap(), "apex".parse().unwrap());
    for (algorithm, key) in &issuers {
        let kid = format!("{algorithm:?}");
        let claims = claimed(*algorithm, Some(&kid), key, "https://id.example").unwrap();
        assert!(claims.may_be_for(&apex));
        assert_eq!(claims.may_be_for(&acme), *algorithm != Algorithm::ES256, "{kid} is bound to a tenant");
        let other = claimed(*algorithm, Some(&kid), key, "https://evil.example");
        assert_eq!(other.is_ok(), *algorithm != Algorithm::EdDSA, "{kid} is bound to an issuer");
    }
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
