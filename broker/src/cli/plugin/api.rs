//! A client of the operators' API of a running broker. It prints nothing and retries nothing.

use std::convert::Infallible;
use std::error::Error as _;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result, anyhow, bail};
use axum::body::{Body, Bytes};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use hyper::ext::on_informational;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::cli::embedded::ADMIN_TOKEN;
use crate::config::{Config, Secret};

/// The header that names the caller.
const ACTOR: &str = "switchboard-actor";

/// Maximum size of an answer that is read as a whole, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Time limit for connecting.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// Time limit for the beginning of an answer: the broker may compile a component, which takes a busy broker up to five
/// minutes, and waits for the nodes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(400);

/// How long to wait for the broker's `100 Continue` before sending a body.
const WANTED_WITHIN: Duration = Duration::from_secs(5);

/// The API of one node.
pub(super) struct Api {
    client: Client<HttpConnector, Body>,
    authority: String,
    token: Secret,
    actor: String,
}

impl Api {
    /// The API at a URL, or else at the address at which the settings say that the broker listens for operators.
    pub(super) fn new(url: Option<&str>, config: &Config) -> Result<Self> {
        let authority = match url {
            None => config.listen.admin.to_string(),
            Some(url) => match url.trim_end_matches('/').strip_prefix("http://") {
                Some(authority) if !authority.is_empty() && !authority.contains('/') => authority.to_owned(),
                _ => bail!("failed to read --admin-url: `{url}` is not a URL such as http://127.0.0.1:8081"),
            },
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECTS_WITHIN));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, authority, token: token(config)?, actor: actor() })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.json(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(Method::PUT, path, Some(body)).await
    }

    /// Posts bytes, but only once the broker asks for them: a broker that refuses the request can then answer, instead of
    /// closing the connection on bytes that it does not read.
    pub(super) async fn upload(&self, path: &str, bytes: Vec<u8>) -> Result<Value> {
        let length = bytes.len();
        let (wanted, want) = watch::channel(false);
        let body = stream::once(async move {
            let mut want = want;
            // A proxy may not support `100 Continue`: the bytes are then sent without it.
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

    /// A GET with a streaming answer of lines.
    pub(super) async fn lines(&self, path: &str) -> Result<impl Stream<Item = Result<String>> + use<>> {
        lines(self.send(self.request(Method::GET, path, "application/json", Body::empty())?).await?).await
    }

    /// A POST of JSON with a streaming answer of lines.
    pub(super) async fn post_lines(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<impl Stream<Item = Result<String>> + use<>> {
        let body = Body::from(body.to_string());
        lines(self.send(self.request(Method::POST, path, "application/json", body)?).await?).await
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        whole(self.send(self.request(method, path, "application/json", body)?).await?).await
    }

    fn request(&self, method: Method, path: &str, kind: &str, body: Body) -> Result<Request<Body>> {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .header(AUTHORIZATION, format!("Bearer {}", self.token.reveal()))
            .header(CONTENT_TYPE, kind)
            .header(ACTOR, &self.actor)
            .body(body)
            .context("failed to build the request")
    }

    async fn send(&self, request: Request<Body>) -> Result<hyper::Response<Body>> {
        let Self { authority, .. } = self;
        let silent = || anyhow!("nothing answers at http://{authority}; is the broker running? (see --admin-url)");
        let answer = timeout(ANSWERS_WITHIN, self.client.request(request)).await;
        let answer = answer.map_err(|_| anyhow!("the broker at http://{authority} did not answer"))?;
        answer.map(|answer| answer.map(Body::new)).map_err(|error| match error.is_connect() {
            true => silent(),
            false => {
                let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                anyhow!("the server at http://{authority} does not speak HTTP, or closed the connection: {why} (see --admin-url)")
            }
        })
    }
}

async fn lines(answer: hyper::Response<Body>) -> Result<impl Stream<Item = Result<String>>> {
    let body = match answer.status() {
        StatusCode::OK => answer.into_body(),
        _ => whole(answer).await.map(|_| Body::empty())?,
    };
    let reader = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(MAX_ANSWER));
    Ok(lines.map(|line| line.context("failed to read the rest of the answer")))
}

/// The answer as JSON. The text of an error is the broker's message.
async fn whole(answer: hyper::Response<Body>) -> Result<Value> {
    let status = answer.status();
    let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER).await.context("failed to read the answer")?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match value["error"]["message"].as_str() {
        None if status.is_success() && value.is_object() => Ok(value),
        None => bail!("the server that answered with {status} does not serve the operators' API; see --admin-url"),
        Some(_) if status == StatusCode::UNAUTHORIZED => bail!(
            "the broker refused the token; set SWITCHBOARD_ADMIN_TOKEN or --admin-token-file to the token that it was \
             started with, or --data-dir to its data folder if it generated one"
        ),
        Some(said) => bail!("{said}"),
    }
}

/// The token that is set, or else the one that an embedded broker generated in the data folder.
fn token(config: &Config) -> Result<Secret> {
    if let Some(token) = &config.listen.admin_token {
        return Ok(token.clone());
    }
    let path = config.data.folder.join(ADMIN_TOKEN);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "there is no operators' token: set SWITCHBOARD_ADMIN_TOKEN or --admin-token-file, or --data-dir to the data \
             folder of an embedded broker; failed to read {}",
            path.display()
        )
    })?;
    Ok(Secret::new(text.trim()))
}

/// The user, according to the environment.
fn actor() -> String {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let user = said("SUDO_USER").or_else(|| said("USER")).or_else(|| said("LOGNAME"));
    let name = match user {
        Some(user) => format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy()),
        None => "operator".to_owned(),
    };
    name.chars().filter(char::is_ascii_graphic).take(100).collect()
}
