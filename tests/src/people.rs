//! Tenants, members and channels as a test speaks of them.
//!
//! They are made on the broker's store, as the program's commands do it, but within this process: a scene has many of
//! them, and a process for each takes longer than most tests. They act over HTTP and sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use switchboard::auth::{Keys, Passwords, Tokens};
use switchboard::config::{Config, Secret, Settings as Given};
use switchboard::model::{self, ChannelId, Clock, Role, TenantSlug, User, Username};
use switchboard::store::{NewChannel, Store};

use crate::{DEADLINE, Settings, Socket, list, number, unique};

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

    /// The same for a client at another of this machine's addresses, such as 127.0.0.2, that says it is a proxy for another
    /// one.
    ///
    /// # Panics
    /// When the text cannot stand in a header.
    pub fn of(&self, client: IpAddr, forwarded_for: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded_for.parse().expect("the value of a header"));
        let builder = Client::builder().no_proxy().timeout(DEADLINE).local_address(client).default_headers(headers);
        Self { address: self.address, http: builder.build().expect("a client without TLS always builds") }
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

    /// Logs in: the status, and the seconds that `Retry-After` says.
    ///
    /// # Panics
    /// When no answer comes within [`DEADLINE`].
    pub async fn try_to_log_in(&self, tenant: &str, username: &str, password: &str) -> (u16, Option<u64>) {
        let body = json!({"tenant": tenant, "username": username, "password": password});
        let request = self.http.post(format!("http://{}/api/token/", self.address)).json(&body);
        let answer = request.send().await.expect("an answer");
        let after = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().ok()?.parse().ok());
        (answer.status().as_u16(), after.map(|after| after.expect("whole seconds")))
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
    config: Config,
    door: Door,
    record: model::Tenant,
    /// Its short name.
    pub slug: String,
}

impl Tenant {
    pub(crate) async fn create(settings: &Settings, door: &Door, name: &str) -> Self {
        let config = config(settings);
        let slug: TenantSlug = format!("{name}-{}", unique()).parse().expect("a slug");
        let made = store(&config).await.create_tenant(&slug, None, Clock::system().now()).await;
        let record = made.expect("the store answers").expect("no other test has this slug");
        Self { config, door: door.clone(), record, slug: slug.to_string() }
    }

    /// Makes a member who has tokens but no password.
    pub async fn member(&self, username: &str) -> Member {
        self.make_member(username, None).await
    }

    /// Makes a member who can log in.
    ///
    /// # Panics
    /// When the tenant has such a member.
    pub async fn member_with_password(&self, username: &str, password: &str) -> Member {
        let passwords = Passwords::new(Clock::system()).await.expect("there are bytes for a salt");
        let hash = passwords.hash(password).await.expect("a password can be hashed");
        self.make_member(username, Some(&hash)).await
    }

    /// The member's id is the name, as it is for `user create`.
    async fn make_member(&self, username: &str, hash: Option<&str>) -> Member {
        let user = User { id: username.parse().expect("an id"), username: username.parse().expect("a name") };
        let made = store(&self.config).await.create_member(&self.record.slug, &user, hash, Clock::system().now()).await;
        assert!(made.expect("the store answers"), "{} has a member {username} already", self.slug);
        self.with_token(user)
    }

    /// A member that is there already, with a new token.
    ///
    /// # Panics
    /// When the tenant has no such member.
    pub async fn member_with_token(&self, username: &str) -> Member {
        let name: Username = username.parse().expect("a name");
        let found = store(&self.config).await.credentials(&self.record.slug, &name).await.expect("the store answers");
        self.with_token(found.unwrap_or_else(|| panic!("{} has no member {username}", self.slug)).user)
    }

    fn with_token(&self, user: User) -> Member {
        let secret = self.config.auth.jwt_secret.clone().expect("brokers with tenants are given a secret");
        let tokens = Tokens::new(Arc::new(Keys::of(secret)), &self.config.auth, Clock::system());
        let token = tokens.access(&self.record, &user, None, None).expect("a token can be signed");
        Member { door: self.door.clone(), username: user.username.to_string(), id: user.id.to_string(), token }
    }

    /// Makes a channel with these members; the first one owns it.
    ///
    /// # Panics
    /// When one of them is of another tenant.
    pub async fn channel(&self, name: &str, members: &[&Member]) -> Channel {
        let clock = Clock::system();
        let roles = std::iter::once(Role::Owner).chain(std::iter::repeat(Role::Member));
        let members = members.iter().map(|member| member.id.parse().expect("an id")).zip(roles).collect();
        let id = ChannelId(clock.uuid());
        let new = NewChannel { id, name: name.to_owned(), epoch: clock.epoch(), members, at: clock.now() };
        let made = store(&self.config).await.create_channel(&self.record.slug, &new).await;
        assert!(made.expect("the store answers"), "all members are of {}", self.slug);
        Channel { id: id.to_string(), name: name.to_owned() }
    }

    /// Shuts the tenant out.
    pub async fn disable(&self) {
        let done = store(&self.config).await.set_tenant_enabled(&self.record.slug, false, Clock::system().now()).await;
        assert!(done.expect("the store answers"), "{} is there", self.slug);
    }
}

/// What the program reads from the same variables.
fn config(settings: &Settings) -> Config {
    let value = |name: &str| settings.value(name).map(str::to_owned);
    let mut given = Given::default().with("data-dir", settings.data().to_str().expect("a path in UTF-8"));
    for (name, variable) in [("database-url", "SWITCHBOARD_DATABASE_URL"), ("access-ttl", "SWITCHBOARD_ACCESS_TTL")] {
        if let Some(text) = value(variable) {
            given = given.with(name, text);
        }
    }
    given.resolve(value("SWITCHBOARD_JWT_SECRET").map(Secret::new)).expect("a broker runs with these settings")
}

/// Opened for each use: a store that stayed open would feel what tests do to a broker's database.
async fn store(config: &Config) -> Arc<dyn Store> {
    switchboard::broker::open_store(&config.data).await.expect("the broker's store opens beside it")
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

    /// The same member with another token.
    pub fn with(&self, token: &str) -> Self {
        Self { token: token.trim().to_owned(), ..self.clone() }
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
