//! Who decides which plugins run: over the operators' API of a broker, or with the program's own commands.

use std::net::SocketAddr;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Answer, DEADLINE, Exit, PROCESS_DEADLINE, Settings, Tenant, list};

/// The token of operators of all brokers that [`Settings::embedded`] starts.
pub const ADMIN_TOKEN: &str = "an-operators-token-of-the-tests";

/// An operator at one node. What it asks for and does not get is a panic, but where the answer is the point.
#[derive(Debug, Clone)]
pub struct Operator {
    settings: Settings,
    address: SocketAddr,
    token: String,
    http: Client,
}

impl Operator {
    pub(crate) fn new(settings: &Settings, address: SocketAddr) -> Self {
        let kept = || std::fs::read_to_string(settings.data().join("admin-token"));
        let token = match settings.value("SWITCHBOARD_ADMIN_TOKEN") {
            Some(token) => token.to_owned(),
            None => kept().expect("an embedded broker made a token").trim().to_owned(),
        };
        let http = Client::builder().no_proxy().timeout(PROCESS_DEADLINE).build();
        Self { settings: settings.clone(), address, token, http: http.expect("a client without TLS always builds") }
    }

    /// Where the node listens for operators.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Runs `switchboard plugin …` against the node.
    pub async fn command(&self, arguments: &[&str]) -> Exit {
        let url = format!("http://{}", self.address);
        let settings = self
            .settings
            .clone()
            .with("SWITCHBOARD_ADMIN_URL", &url)
            .with("SWITCHBOARD_ADMIN_TOKEN", &self.token)
            .with("USER", "olga");
        let arguments: Vec<&str> = ["plugin"].iter().chain(arguments).copied().collect();
        settings.run(&arguments).await
    }

    /// A GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.http.request(Method::GET, self.url(path))).await
    }

    /// A POST of a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.http.request(Method::POST, self.url(path)).json(&body)).await
    }

    /// A PUT of a JSON body.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.http.request(Method::PUT, self.url(path)).json(&body)).await
    }

    /// Any request without a body.
    pub async fn request(&self, method: Method, path: &str) -> Answer {
        self.send(self.http.request(method, self.url(path))).await
    }

    /// Sends bytes to be deployed.
    pub async fn upload(&self, component: Vec<u8>) -> Answer {
        self.send(self.http.post(self.url("/api/plugins/")).body(component)).await
    }

    /// Deploys the component of a file.
    pub async fn deploy(&self, path: &str) -> Value {
        let component = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        done(self.upload(component).await)
    }

    /// Puts a version in force, with a configuration, for a tenant or, with `None`, for all.
    pub async fn activate<'a>(
        &self,
        plugin: &str,
        version: &str,
        whom: impl Into<Option<&'a Tenant>>,
        config: &str,
    ) -> Value {
        done(self.try_activate(plugin, version, whom, config).await)
    }

    /// As [`Operator::activate`], whatever the answer is.
    pub async fn try_activate<'a>(
        &self,
        plugin: &str,
        version: &str,
        whom: impl Into<Option<&'a Tenant>>,
        config: &str,
    ) -> Answer {
        let body = json!({"tenant": slug(whom), "version": version, "config": config});
        self.post(&format!("/api/plugins/{plugin}/activate/"), body).await
    }

    /// Tries a version out on so many per cent of the channels.
    pub async fn canary<'a>(
        &self,
        plugin: &str,
        version: &str,
        whom: impl Into<Option<&'a Tenant>>,
        percent: u8,
    ) -> Value {
        let body = json!({"tenant": slug(whom), "version": version, "percent": percent});
        done(self.post(&format!("/api/plugins/{plugin}/canary/"), body).await)
    }

    /// Tries a version out as a shadow.
    pub async fn shadow<'a>(&self, plugin: &str, version: &str, whom: impl Into<Option<&'a Tenant>>) -> Value {
        let body = json!({"tenant": slug(whom), "version": version});
        done(self.post(&format!("/api/plugins/{plugin}/shadow/"), body).await)
    }

    /// Puts what is tried out in force.
    pub async fn promote<'a>(&self, plugin: &str, whom: impl Into<Option<&'a Tenant>>) -> Value {
        self.act(plugin, "promote", whom).await
    }

    /// Stops what is tried out, or goes back to what was in force before.
    pub async fn rollback<'a>(&self, plugin: &str, whom: impl Into<Option<&'a Tenant>>) -> Value {
        self.act(plugin, "rollback", whom).await
    }

    /// Lets nobody handle what a plugin handles.
    pub async fn disable<'a>(&self, plugin: &str, whom: impl Into<Option<&'a Tenant>>) -> Value {
        self.act(plugin, "disable", whom).await
    }

    /// Gives up what was decided for a tenant alone.
    pub async fn follow(&self, plugin: &str, tenant: &Tenant) -> Value {
        self.act(plugin, "follow", tenant).await
    }

    async fn act<'a>(&self, plugin: &str, action: &str, whom: impl Into<Option<&'a Tenant>>) -> Value {
        let body = json!({"tenant": slug(whom)});
        done(self.post(&format!("/api/plugins/{plugin}/{action}/"), body).await)
    }

    /// Grants interfaces to a plugin, beside those it has.
    pub async fn grant<'a>(&self, plugin: &str, whom: impl Into<Option<&'a Tenant>>, interfaces: &[&str]) -> Value {
        let body = json!({"tenant": slug(whom), "add": interfaces});
        done(self.put(&format!("/api/plugins/{plugin}/grants/"), body).await)
    }

    /// Sets a limit of a plugin.
    pub async fn limit<'a>(
        &self,
        plugin: &str,
        whom: impl Into<Option<&'a Tenant>>,
        name: &str,
        value: impl Into<Option<u64>>,
    ) -> Value {
        let body = json!({"tenant": slug(whom), "values": {name: value.into()}});
        done(self.put(&format!("/api/plugins/{plugin}/limits/"), body).await)
    }

    /// Gives calls of a plugin all the time by the clock that may be set. What they may take of a processor stays as it is:
    /// a busy machine makes them late and changes nothing else.
    pub async fn be_patient_with(&self, plugin: &str) {
        self.limit(plugin, None, "wall_ms", 5_000).await;
    }

    /// Decides what follows from a failing handler: `open`, `closed` or `default`.
    pub async fn policy<'a>(&self, kind: &str, whom: impl Into<Option<&'a Tenant>>, policy: &str) -> Value {
        let body = json!({"tenant": slug(whom), "policy": policy});
        done(self.put(&format!("/api/policies/{kind}/"), body).await)
    }

    /// Decides whether a tenant's events may be recorded.
    pub async fn consent(&self, tenant: &Tenant, recording: bool) -> Value {
        done(self.put(&format!("/api/consents/{}/", tenant.slug), json!({"recording": recording})).await)
    }

    /// What is known of a plugin.
    pub async fn plugin(&self, name: &str) -> Value {
        done(self.get(&format!("/api/plugins/{name}/")).await)
    }

    /// The last lines of a plugin's log on this node, the oldest first.
    ///
    /// # Panics
    /// When a line is no JSON.
    pub async fn logs(&self, plugin: &str) -> Vec<Value> {
        let answer = done(self.get(&format!("/api/plugins/{plugin}/logs/?tail=1000")).await);
        // One line alone reads as JSON, none as null.
        match answer {
            Value::Null => Vec::new(),
            Value::String(lines) => {
                lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
            }
            line => vec![line],
        }
    }

    /// Follows a plugin's log on this node, from now on.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn listen(&self, plugin: &str) -> Lines {
        // The answer has no end, so the time is that of each line.
        let http = Client::builder().no_proxy().build().expect("a client without TLS always builds");
        let url = self.url(&format!("/api/plugins/{plugin}/logs/?tail=0&follow=true"));
        let answer = http.get(url).bearer_auth(&self.token).send().await.expect("the operators' API answers");
        assert_eq!(answer.status(), 200, "the log can be followed");
        Lines { answer, rest: Vec::new() }
    }

    /// The last lines of the audit, the latest first.
    pub async fn audit(&self) -> Vec<Value> {
        list(&done(self.get("/api/audit/?limit=100").await), "results").to_vec()
    }

    /// The nodes that live.
    pub async fn nodes(&self) -> Vec<Value> {
        list(&done(self.get("/api/nodes/").await), "results").to_vec()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.bearer_auth(&self.token).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("the operators' API does not answer: {error:?}"));
        let status = answer.status().as_u16();
        let body = answer.text().await.unwrap_or_else(|error| panic!("the answer ends early: {error:?}"));
        let body = match body.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        (status, body)
    }
}

/// Lines of a log as they come.
#[derive(Debug)]
pub struct Lines {
    answer: reqwest::Response,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line; none when the broker ended the log.
    ///
    /// # Panics
    /// When nothing of this comes within [`DEADLINE`].
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                // An empty line is a sign of life.
                if line == b"\n" {
                    continue;
                }
                return Some(serde_json::from_slice(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}")));
            }
            let piece = timeout(DEADLINE, self.answer.chunk()).await.expect("a line, or the end");
            let piece = piece.unwrap_or_else(|error| panic!("the log broke off: {error:?}"))?;
            self.rest.extend_from_slice(&piece);
        }
    }
}

fn slug<'a>(whom: impl Into<Option<&'a Tenant>>) -> Option<&'a str> {
    whom.into().map(|tenant| tenant.slug.as_str())
}

fn done((status, body): Answer) -> Value {
    assert!(matches!(status, 200 | 201), "{status}: {body}");
    body
}
