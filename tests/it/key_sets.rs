//! Public keys of external issuers change while the broker runs.

use std::fs;
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use switchboard::model::Clock;
use switchboard_tests::{App, Settings, Tenant, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What comes before the seed of an Ed25519 key in PKCS #8.
const PKCS8: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A key of an issuer.
struct Key {
    id: String,
    key: EncodingKey,
}

impl Key {
    fn new(id: &str) -> Self {
        let seed: [u8; 32] = Clock::system().random();
        Self { id: id.to_owned(), key: EncodingKey::from_ed_der(&[PKCS8, &seed].concat()) }
    }

    fn token(&self, tenant: &Tenant) -> String {
        let now = Clock::system().now().seconds();
        let claims = json!({
            "token_type": "access", "exp": now + 300, "iat": now, "user_id": 7, "schema_name": tenant.slug,
            "iss": "https://id.example",
        });
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

fn set(keys: &[&Key]) -> String {
    let published = keys.iter().map(|key| {
        let mut jwk = Jwk::from_encoding_key(&key.key, Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some(key.id.clone());
        jwk
    });
    json!({"keys": published.collect::<Vec<_>>()}).to_string()
}

async fn is_let_in(app: &App, token: &str) -> bool {
    app.door().get("/api/me/", Some(token)).await.0 == 200
}

#[tokio::test]
async fn a_key_set_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let settings = Settings::embedded();
    let path = settings.folder().path().join("keys.json");
    fs::write(&path, set(&[&old])).unwrap();
    let app = App::start(settings.with("SWITCHBOARD_JWKS_FILE", path.to_str().unwrap())).await;
    let acme = app.tenant("acme").await;
    let (by_old, by_new) = (old.token(&acme), new.token(&acme));
    assert!(is_let_in(&app, &by_old).await && !is_let_in(&app, &by_new).await);
    fs::write(&path, "{\"keys\": [").unwrap();
    app.broker().logged("the one before stays in force").await;
    assert!(is_let_in(&app, &by_old).await);
    fs::write(&path, set(&[&old, &new])).unwrap();
    eventually("the new key counts", async || is_let_in(&app, &by_new).await).await;
    assert!(is_let_in(&app, &by_old).await);
    fs::write(&path, set(&[&new])).unwrap();
    eventually("the old key is gone", async || !is_let_in(&app, &by_old).await).await;
}

/// An issuer that publishes what it is told to, and counts how often it is asked.
struct Issuer {
    url: String,
    state: Arc<Mutex<(String, u32)>>,
}

impl Issuer {
    async fn start(keys: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new((keys, 0)));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4_096];
                let _ = stream.read(&mut head).await;
                let body = {
                    let mut state = shared.lock().unwrap();
                    state.1 += 1;
                    state.0.clone()
                };
                let answer = if body.is_empty() {
                    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
                } else {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, state }
    }

    fn publishes(&self, keys: &str) {
        keys.clone_into(&mut self.state.lock().unwrap().0);
    }

    fn asked(&self) -> u32 {
        self.state.lock().unwrap().1
    }
}

#[tokio::test]
async fn a_key_set_is_fetched_at_the_start_and_kept_for_when_the_issuer_is_away() {
    let key = Key::new("one");
    let issuer = Issuer::start(set(&[&key])).await;
    let settings = Settings::embedded().with("SWITCHBOARD_JWKS_URL", &issuer.url);
    let app = App::start(settings.clone()).await;
    let acme = app.tenant("acme").await;
    assert!(is_let_in(&app, &key.token(&acme)).await);
    // Tokens that name a key that is not there do not make the broker ask again and again.
    let stranger = Key::new("two");
    let asked = issuer.asked();
    for _ in 0..20 {
        assert!(!is_let_in(&app, &stranger.token(&acme)).await);
    }
    assert_eq!(issuer.asked(), asked);
    issuer.publishes("");
    let token = key.token(&acme);
    let app = app.crash().await;
    assert!(is_let_in(&app, &token).await, "what was fetched last applies");
    app.broker().logged("the one that was fetched last applies").await;
}

#[tokio::test]
async fn a_key_set_is_fetched_by_https_or_from_this_machine() {
    for (url, good) in [
        ("https://id.example/jwks.json", true),
        ("http://127.0.0.1:9/jwks.json", true),
        ("http://id.example/jwks.json", false),
        ("ftp://id.example/", false),
        ("id.example", false),
    ] {
        let checked = Settings::embedded().with("SWITCHBOARD_JWKS_URL", url).run(&["config", "check"]).await;
        assert_eq!(checked.code() == Some(0), good, "{url}: {checked:?}");
    }
    for binding in ["kid=a", "tenant=acme", "kid=a tenant=/", "kid=a kid=b tenant=acme", "a"] {
        let checked = Settings::embedded().with("SWITCHBOARD_JWT_KEY_BINDING", binding).run(&["config", "check"]).await;
        assert_eq!(checked.code(), Some(1), "{binding}");
        assert!(checked.stderr.contains("jwt-key-binding"), "{checked:?}");
    }
}
