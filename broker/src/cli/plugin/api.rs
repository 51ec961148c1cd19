//! Talks to the operators' API of a running broker. It prints nothing and retries nothing.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use axum::body::{Body, Bytes};
use futures_util::stream;
use hyper::client::conn::http1;
use hyper::ext::on_informational;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cli::embedded::ADMIN_TOKEN;
use crate::config::{Config, Secret};

/// The header that says who asks.
const ACTOR: &str = "switchboard-actor";

/// The longest answer that is read whole, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// How long a connection may take.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer may take to begin: a component is compiled, for which a busy broker takes up to five minutes, and the
/// nodes are waited for.
const ANSWERS_WITHIN: Duration = Duration::from_secs(400);

/// How long a body waits for the broker's word that it wants it.
const WANTED_WITHIN: Duration = Duration::from_secs(5);

/// The API of one node.
pub(super) struct Api {
    authority: String,
    token: Secret,
    actor: String,
}

impl Api {
    /// The API at a URL, or where this machine's settings say that the broker listens for operators.
    pub(super) fn new(url: Option<&str>, config: &Config) -> Result<Self> {
        let authority = match url {
            None => config.listen.admin.to_string(),
            Some(url) => match url.trim_end_matches('/').strip_prefix("http://") {
                Some(authority) if !authority.is_empty() && !authority.contains('/') => authority.to_owned(),
                _ => bail!("failed to read --admin-url: `{url}` is not such as http://127.0.0.1:8081"),
            },
        };
        Ok(Self { authority, token: token(config)?, actor: actor() })
    }

    /// A GET that answers JSON.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.json(Method::GET, path, None).await
    }

    /// A POST of JSON.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// A PUT of JSON.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(Method::PUT, path, Some(body)).await
    }

    /// A POST of bytes, which are sent when the broker says that it wants them: one that does not has its say, and does
    /// not hang up on what it does not read.
    pub(super) async fn upload(&self, path: &str, bytes: Vec<u8>) -> Result<Value> {
        let length = bytes.len();
        let (wanted, want) = watch::channel(false);
        let body = stream::once(async move {
            let mut want = want;
            // A broker behind something that knows no such word gets the bytes without it.
            let _ = tokio::time::timeout(WANTED_WITHIN, want.wait_for(|wanted| *wanted)).await;
            Ok::<_, Infallible>(Bytes::from(bytes))
        });
        let mut request = self.request(Method::POST, path, "application/wasm", Body::from_stream(body))?;
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        on_informational(&mut request, move |_| {
            wanted.send_replace(true);
        });
        whole(self.send(request).await?).await
    }

    /// A GET whose answer comes bit by bit.
    pub(super) async fn stream(&self, path: &str) -> Result<Body> {
        bit_by_bit(self.send(self.request(Method::GET, path, "application/json", Body::empty())?).await?).await
    }

    /// A POST of JSON whose answer comes bit by bit.
    pub(super) async fn post_stream(&self, path: &str, body: &Value) -> Result<Body> {
        let body = Body::from(body.to_string());
        bit_by_bit(self.send(self.request(Method::POST, path, "application/json", body)?).await?).await
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        whole(self.send(self.request(method, path, "application/json", body)?).await?).await
    }

    fn request(&self, method: Method, path: &str, kind: &str, body: Body) -> Result<Request<Body>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, format!("Bearer {}", self.token.reveal()))
            .header(CONTENT_TYPE, kind)
            .header(ACTOR, &self.actor)
            .body(body)
            .context("failed to make the request")
    }

    async fn send(&self, request: Request<Body>) -> Result<hyper::Response<Body>> {
        let Self { authority, .. } = self;
        let silent = || anyhow!("nothing answers at http://{authority}; is the broker running? (see --admin-url)");
        let connected = timeout(CONNECTS_WITHIN, TcpStream::connect(authority)).await;
        let stream = connected.map_err(|_| silent())?.map_err(|_| silent())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| silent())?;
        tokio::spawn(connection);
        let answer = timeout(ANSWERS_WITHIN, sender.send_request(request)).await;
        let answer = answer.map_err(|_| anyhow!("the broker at http://{authority} does not answer"))?;
        answer.map(|answer| answer.map(Body::new)).map_err(|error| {
            anyhow!("what is at http://{authority} answered with no HTTP, or hung up: {error} (see --admin-url)")
        })
    }
}

async fn bit_by_bit(answer: hyper::Response<Body>) -> Result<Body> {
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        _ => whole(answer).await.map(|_| Body::empty()),
    }
}

/// The answer as JSON; the text of an error is what the broker says.
async fn whole(answer: hyper::Response<Body>) -> Result<Value> {
    let status = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER).await.context("failed to read the answer")?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match value["error"]["message"].as_str() {
        None if status.is_success() && value.is_object() => Ok(value),
        None => bail!("what answers is not the operators' API of a broker: it says {status}; see --admin-url"),
        Some(_) if status == StatusCode::UNAUTHORIZED => bail!(
            "the broker refused the token; set SWITCHBOARD_ADMIN_TOKEN or --admin-token-file to the one it was \
             started with, or --data-dir to its folder if it made one itself"
        ),
        Some(said) => bail!("{said}"),
    }
}

/// The token that is set, or the one that an embedded broker made in the data folder.
fn token(config: &Config) -> Result<Secret> {
    if let Some(token) = &config.listen.admin_token {
        return Ok(token.clone());
    }
    let path = config.data.folder.join(ADMIN_TOKEN);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "there is no token for operators: set SWITCHBOARD_ADMIN_TOKEN or --admin-token-file, or --data-dir to the \
             folder of an embedded broker; failed to read {}",
            path.display()
        )
    })?;
    Ok(Secret::new(text.trim()))
}

/// Who is at the keyboard, as far as the environment says.
fn actor() -> String {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let user = said("SUDO_USER").or_else(|| said("USER")).or_else(|| said("LOGNAME"));
    let host = said("HOSTNAME").or_else(|| fs::read_to_string("/etc/hostname").ok());
    let name = match (user, host) {
        (Some(user), Some(host)) => format!("{user}@{}", host.trim()),
        (Some(user), None) => user,
        (None, _) => "operator".to_owned(),
    };
    name.chars().filter(char::is_ascii_graphic).take(100).collect()
}
