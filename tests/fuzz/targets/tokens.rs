//! Tokens: any text, and tokens that are made of a given header and claims and signed in various ways.
//!
//! It asserts that no text is accepted but one whose last part is the HMAC of the rest under the broker's secret; that no
//! header makes another signature count (another algorithm, a public key for a secret, none at all); and that what is accepted
//! has the claims that were signed, of the type that was asked for, and has not expired.

#![no_main]

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};
use switchboard::auth::{Claims, Keys, TokenType, Tokens};
use switchboard::config::{Secret, Settings};
use switchboard::model::{Clock, Timestamp};
use switchboard_fuzz::Input;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The public keys of RFC 8037 and RFC 7517. No input has a signature of theirs.
const PUBLIC: &str = r#"{"keys":[
    {"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {"kty":"EC","crv":"P-256","kid":"ec","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}
]}"#;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let mut config = Settings::default().resolve(Some(Secret::new(SECRET))).expect("settings").auth;
    let path = std::env::temp_dir().join(format!("switchboard-fuzz-{}.json", std::process::id()));
    std::fs::write(&path, PUBLIC).expect("a file");
    config.jwks_file = Some(path.clone());
    let keys = Keys::new(Secret::new(SECRET), &config).expect("keys");
    std::fs::remove_file(path).expect("a file");
    Tokens::new(Arc::new(keys), &config, Clock::manual(NOW))
});

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let how = input.byte();
    let (token, is_ours) = if how < 128 { (input.text(), None) } else { made(how, &mut input) };
    let Ok(claims) = TOKENS.check_any(&token) else {
        assert!(TOKENS.check(&token, TokenType::Access).is_err() && TOKENS.check(&token, TokenType::Refresh).is_err());
        return;
    };
    assert_ne!(is_ours, Some(false), "accepted without our signature: {token}");
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("a signature in base64");
    assert_eq!(signature, code::<Hmac<Sha256>>(SECRET.as_bytes(), signed), "accepted without our signature: {token}");
    accepted(&claims, signed);
    let other = if claims.token_type == TokenType::Access { TokenType::Refresh } else { TokenType::Access };
    assert!(TOKENS.check(&token, claims.token_type).is_ok() && TOKENS.check(&token, other).is_err());
});

/// Holds what was accepted to what was signed.
fn accepted(claims: &Claims, signed: &str) {
    let (header, payload) = signed.split_once('.').expect("three parts");
    // What serde_json does not look into, it does not check either, so the whole may be none of its values.
    let read = |part: &str| -> Option<Value> {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).ok()
    };
    assert!(claims.expires_at() > NOW);
    let (Some(header), Some(payload)) = (read(header), read(payload)) else { return };
    assert_eq!(header["alg"], "HS256");
    for name in ["crit", "zip", "enc", "b64"] {
        assert!(header.get(name).is_none(), "{name} was not understood");
    }
    assert_eq!(payload["token_type"], if claims.token_type == TokenType::Access { "access" } else { "refresh" });
    match &payload["user_id"] {
        Value::String(id) => assert_eq!(Some(&claims.user_id), id.parse().ok().as_ref()),
        // serde_json rounds what the broker reads exactly.
        id => assert!(id.is_number(), "{id}"),
    }
    assert_eq!(payload["schema_name"].as_str(), claims.schema_name.as_deref());
    assert_eq!(payload["jti"].as_str(), claims.jti.as_deref());
}

/// A token of the input's header and claims, and whether it is one that we signed.
fn made(how: u8, input: &mut Input<'_>) -> (String, Option<bool>) {
    let signed =
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(input.part()), BASE64_URL_SAFE_NO_PAD.encode(input.part()));
    let secret = SECRET.as_bytes();
    let public = BASE64_URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").expect("a key");
    let ours = code::<Hmac<Sha256>>(secret, &signed);
    let (signature, is_ours) = match how % 10 {
        0..=2 => (ours, true),
        3 => (Vec::new(), false),
        4 => (code::<Hmac<Sha384>>(secret, &signed), false),
        5 => (code::<Hmac<Sha512>>(secret, &signed), false),
        6 => (code::<Hmac<Sha256>>(&public, &signed), false),
        7 => (code::<Hmac<Sha256>>(PUBLIC.as_bytes(), &signed), false),
        8 => (ours[..16].to_vec(), false),
        _ => {
            let mut forged = ours;
            forged[usize::from(input.byte() % 32)] ^= 1 << (input.byte() % 8);
            (forged, false)
        }
    };
    (format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)), Some(is_ours))
}

fn code<M: Mac + KeyInit>(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
