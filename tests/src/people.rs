//! Tenants, members and channels as a test speaks of them.
//!
//! They are made with the program's commands and act over HTTP and sockets.

use std::net::SocketAddr;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::tokens::payload_of;
use crate::{DEADLINE, Settings, Socket, list, number, text, unique};

/// The status and the JSON body of an answer; a body that is no JSON is a string, an empty one is null.
pub type Answer = (u16, Value);

/// Where clients of a broker connect.
#[derive(Debug, Clone)]
pub struct Door {
    address: SocketAddr,
    http: Client,
}

impl Door {
    /// The door at an address.
    ///
    /// # Panics
    /// Never: a client without TLS has nothing to fail on.
    pub fn new(address: SocketAddr) -> Self {
        let http = Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client without TLS always builds");
        Self { address, http }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A GET, with a token or without.
    pub async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.request(Method::GET, path, token, None).await
    }

    /// A GET with a token; none when no answer comes, as from a node that is gone.
    pub async fn try_get(&self, path: &str, token: &str) -> Option<Answer> {
        let request = self.http.get(format!("http://{}{path}", self.address)).bearer_auth(token);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// A POST of a JSON body, with a token or without.
    pub async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.request(Method::POST, path, token, Some(body)).await
    }

    /// Logs in.
    pub async fn log_in(&self, tenant: &str, username: &str, password: &str) -> Answer {
        self.post("/api/token/", None, json!({"tenant": tenant, "username": username, "password": password})).await
    }

    /// Any request.
    ///
    /// # Panics
    /// When no answer comes within [`DEADLINE`].
    pub async fn request(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method.clone(), format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let failed = |error: reqwest::Error| -> ! { panic!("{method} {path}: {error:?}") };
        let answer = request.send().await.unwrap_or_else(|error| failed(error));
        let status = answer.status().as_u16();
        let body = answer.text().await.unwrap_or_else(|error| failed(error));
        let body = match body.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        (status, body)
    }
}

/// A tenant that no other test uses.
#[derive(Debug, Clone)]
pub struct Tenant {
    settings: Settings,
    door: Door,
    /// Its short name.
    pub slug: String,
}

impl Tenant {
    pub(crate) async fn create(settings: &Settings, door: &Door, name: &str) -> Self {
        let slug = format!("{name}-{}", unique());
        settings.run(&["tenant", "create", &slug]).await.success();
        Self { settings: settings.clone(), door: door.clone(), slug }
    }

    /// Makes a member who has tokens but no password.
    pub async fn member(&self, username: &str) -> Member {
        self.settings.run(&["user", "create", &self.slug, username]).await.success();
        self.member_with_token(username).await
    }

    /// Makes a member who can log in.
    pub async fn member_with_password(&self, username: &str, password: &str) -> Member {
        let create = ["user", "create", &self.slug, username, "--password-stdin"];
        self.settings.run_with_input(&create, &format!("{password}\n")).await.success();
        self.member_with_token(username).await
    }

    /// A member that is there already.
    pub async fn member_with_token(&self, username: &str) -> Member {
        let token = self.settings.run(&["token", &self.slug, username]).await.success();
        let id = text(&payload_of(&token), "user_id").to_owned();
        Member { door: self.door.clone(), username: username.to_owned(), id, token }
    }

    /// Makes a channel with these members.
    pub async fn channel(&self, name: &str, members: &[&Member]) -> Channel {
        let mut arguments = vec!["channel", "create", &self.slug, name];
        for member in members {
            arguments.extend(["--member", &member.username]);
        }
        let printed = self.settings.run(&arguments).await.success();
        let id = printed.split_whitespace().last().expect("`channel create` prints the id as its last word");
        Channel { id: id.to_owned(), name: name.to_owned() }
    }

    /// Shuts the tenant out.
    pub async fn disable(&self) {
        self.settings.run(&["tenant", "disable", &self.slug]).await.success();
    }
}

/// A conversation.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its id, a UUID.
    pub id: String,
    /// What people call it.
    pub name: String,
}

impl Channel {
    /// A channel that is nowhere.
    pub fn missing() -> Self {
        let id = switchboard::model::Clock::system().uuid().to_string();
        Self { id, name: "nowhere".to_owned() }
    }

    /// Its place below `/api/`, with what follows.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/channels/{}/{rest}", self.id)
    }
}

/// A member of a tenant, with a token.
#[derive(Debug, Clone)]
pub struct Member {
    door: Door,
    /// Unique within the tenant.
    pub username: String,
    /// What tokens carry as `user_id`.
    pub id: String,
    /// An access token.
    pub token: String,
}

impl Member {
    /// Someone who brings a token of another issuer.
    pub fn external(door: &Door, username: &str, id: &str, token: String) -> Self {
        Self { door: door.clone(), username: username.to_owned(), id: id.to_owned(), token }
    }

    /// The same member at another node.
    pub fn at(&self, door: &Door) -> Self {
        Self { door: door.clone(), ..self.clone() }
    }

    /// The member as frames and messages name it.
    pub fn as_json(&self) -> Value {
        json!({"id": self.id, "username": self.username})
    }

    /// Opens a socket for one channel and waits for the channel's state.
    pub async fn join(&self, channel: &Channel) -> Socket {
        let mut socket = self.knock(channel).await;
        socket.greeting = socket.next_of("channel.state").await;
        socket
    }

    /// Opens a socket for one channel and does not wait for what comes.
    pub async fn knock(&self, channel: &Channel) -> Socket {
        self.knock_with(channel, &[]).await
    }

    /// As [`Member::knock`], with further parameters in the URL. Their values need no escaping.
    pub async fn knock_with(&self, channel: &Channel, parameters: &[(&str, &str)]) -> Socket {
        let parameters: String = parameters.iter().map(|(name, value)| format!("&{name}={value}")).collect();
        self.open(&format!("/ws/chat/{}/", channel.id), &parameters).await
    }

    /// Opens a socket for many channels and waits for the welcome.
    pub async fn connect(&self) -> Socket {
        let mut socket = self.open("/ws/", "").await;
        socket.greeting = socket.next_of("welcome").await;
        socket
    }

    async fn open(&self, path: &str, parameters: &str) -> Socket {
        let path = format!("{path}?token={}{parameters}", self.token);
        let opened = Socket::open(&self.username, self.door.address(), &path, &[]).await;
        opened.unwrap_or_else(|refused| panic!("{} cannot connect: {refused:?}", self.username))
    }

    /// A GET with the member's token.
    pub async fn get(&self, path: &str) -> Answer {
        self.door.get(path, Some(&self.token)).await
    }

    /// A POST with the member's token.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.door.post(path, Some(&self.token), body).await
    }

    /// A DELETE with the member's token.
    pub async fn delete(&self, path: &str) -> Answer {
        self.door.request(Method::DELETE, path, Some(&self.token), None).await
    }

    /// Everything that was said in a channel, in the order of `seq`, page by page over HTTP.
    ///
    /// # Panics
    /// When the member may not read it.
    pub async fn history(&self, channel: &Channel) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().map_or(0, |message| number(message, "seq"));
            let (status, page) = self.get(&channel.path(&format!("messages/?after={after}&limit=100"))).await;
            assert_eq!(status, 200, "{page}");
            match list(&page, "results") {
                [] => return all,
                found => all.extend_from_slice(found),
            }
        }
    }
}
