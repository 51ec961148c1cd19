//! Talks to the operators' API of a running broker. It prints nothing and retries nothing.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use axum::body::Body;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::cli::embedded::ADMIN_TOKEN;
use crate::config::{Config, Secret};

/// The header that says who an operator is.
const OPERATOR: &str = "x-switchboard-operator";

/// The longest answer that is read whole, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// The API of one node.
pub(super) struct Api {
    authority: String,
    token: Secret,
    operator: String,
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
        Ok(Self { authority, token: token(config)?, operator: operator() })
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

    /// A POST of bytes.
    pub(super) async fn upload(&self, path: &str, bytes: Vec<u8>) -> Result<Value> {
        let answer = self.send(Method::POST, path, "application/wasm", Body::from(bytes)).await?;
        whole(answer).await
    }

    /// A GET whose answer comes bit by bit.
    pub(super) async fn stream(&self, path: &str) -> Result<Body> {
        let answer = self.send(Method::GET, path, "application/json", Body::empty()).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            _ => whole(answer).await.map(|_| Body::empty()),
        }
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        whole(self.send(method, path, "application/json", body).await?).await
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Body) -> Result<hyper::Response<Body>> {
        let unreachable = || format!("failed to reach the broker at http://{} (see --admin-url)", self.authority);
        let stream = TcpStream::connect(&self.authority).await.with_context(unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(unreachable)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, format!("Bearer {}", self.token.reveal()))
            .header(CONTENT_TYPE, kind)
            .header(OPERATOR, &self.operator)
            .body(body)
            .context("failed to make the request")?;
        let answer = sender.send_request(request).await.with_context(unreachable)?;
        Ok(answer.map(Body::new))
    }
}

/// The answer as JSON; the text of an error is what the broker says.
async fn whole(answer: hyper::Response<Body>) -> Result<Value> {
    let status = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER).await.context("failed to read the answer")?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    let said = value["error"]["message"].as_str();
    Err(said.map_or_else(|| anyhow!("the broker answered {status}"), |said| anyhow!("{said}")))
}

/// The token that is set, or the one that an embedded broker made in the data folder.
fn token(config: &Config) -> Result<Secret> {
    if let Some(token) = &config.listen.admin_token {
        return Ok(token.clone());
    }
    let path = config.data.folder.join(ADMIN_TOKEN);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "failed to find the operators' token: set SWITCHBOARD_ADMIN_TOKEN or --admin-token-file, or --data-dir to \
             an embedded broker's folder; {}",
            path.display()
        )
    })?;
    Ok(Secret::new(text.trim()))
}

/// Who is at the keyboard, as far as the environment says.
fn operator() -> String {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let user = said("SUDO_USER").or_else(|| said("USER")).or_else(|| said("LOGNAME"));
    let host = said("HOSTNAME").or_else(|| fs::read_to_string("/etc/hostname").ok());
    let text = format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.as_deref().unwrap_or("unknown").trim());
    text.chars().filter(char::is_ascii_graphic).collect()
}
