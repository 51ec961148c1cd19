//! What a broker knows before it starts, read and checked. Made of [`Settings`](super::Settings).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

/// The shortest shared secret: HS256 asks for as many bits as its hash has (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// The shortest token of operators: 16 characters of hexadecimal are 64 bits.
pub const MIN_TOKEN_BYTES: usize = 16;

/// What is wrong with the settings, as the operator reads it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("failed to read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not TOML, or has a key that is no setting.
    #[error("failed to understand {path}: {source}")]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value does not read.
    #[error("failed to read the setting {name}: {reason}")]
    Value {
        /// The flag.
        name: &'static str,
        /// What is expected.
        reason: String,
    },
    /// The system lets the process have too few files and connections open.
    #[error(
        "failed to start with {all} open files and connections: a broker needs {least}; raise the limit with ulimit -n"
    )]
    Descriptors {
        /// So many it may have.
        all: usize,
        /// So many are the least.
        least: usize,
    },
    /// A setting that these others need is not there.
    #[error("failed to find {what}: {hint}")]
    Missing {
        /// What.
        what: &'static str,
        /// What to set.
        hint: &'static str,
    },
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Everything a broker needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Where durable state is.
    pub data: Data,
    /// How tokens are checked and made.
    pub auth: Auth,
    /// Which handlers are active.
    pub plugins: Plugins,
    /// Bounds of a socket and of the process.
    pub limits: Limits,
    /// What it writes to standard error.
    pub log: Log,
}

impl Config {
    /// Whether there is a secret to sign tokens with. What needs none, such as making a tenant, does without.
    ///
    /// # Errors
    ///
    /// Outside of embedded mode, which makes its own, the one that is missing.
    pub fn require_secret(&self) -> Result<(), ConfigError> {
        if self.auth.jwt_secret.is_some() || self.data.is_embedded() {
            return Ok(());
        }
        Err(ConfigError::Missing {
            what: "the secret of the tokens",
            hint: "set SWITCHBOARD_JWT_SECRET to at least 32 random bytes, or --jwt-secret-file to a file with them \
                   (openssl rand -hex 32 makes them)",
        })
    }
}

/// Listeners.
#[derive(Debug, Clone)]
pub struct Listen {
    /// For clients. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub public: SocketAddr,
    /// For operators: metrics, readiness and plugins. Default `127.0.0.1:8081`.
    pub admin: SocketAddr,
    /// What operators show to change plugins. `None` in embedded mode: one is made in the data folder at the first start;
    /// otherwise nobody may.
    pub admin_token: Option<Secret>,
    /// Origins that browsers may come from, such as `https://chat.example.com`. Default: the listener's own origin, as
    /// the browser names it in `Host`.
    pub allowed_origins: Vec<String>,
    /// Proxies that say in `X-Forwarded-For` who is behind them. Default: nobody.
    pub trusted_proxies: Vec<IpNet>,
}

/// Durable state.
#[derive(Debug, Clone)]
pub struct Data {
    /// Default `./data`. Holds compiled plugins, and in embedded mode everything.
    pub folder: PathBuf,
    /// `None`: embedded, a SQLite file a tenant below the folder.
    pub database_url: Option<Secret>,
    /// `None`: this node is alone.
    pub redis_url: Option<Secret>,
}

impl Data {
    /// Whether the broker needs no service.
    pub fn is_embedded(&self) -> bool {
        self.database_url.is_none()
    }
}

/// Tokens.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The secret shared with whoever else issues tokens; at least [`MIN_SECRET_BYTES`]. `None` in embedded mode: one is
    /// made in the data folder at the first start.
    pub jwt_secret: Option<Secret>,
    /// Public keys of external issuers, a JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// When given, tokens of other issuers are refused. The broker's own are always taken.
    pub issuer: Option<String>,
    /// When given, external tokens must be for this audience.
    pub audience: Option<String>,
    /// Whether a valid external token makes its member. Default true.
    pub auto_provision: bool,
    /// How long an access token lives. Default 5 minutes, as SimpleJWT.
    pub access_ttl: Duration,
    /// How long a refresh token lives. Default 1 day, as SimpleJWT.
    pub refresh_ttl: Duration,
}

/// Handlers.
#[derive(Debug, Clone)]
pub struct Plugins {
    /// Whether the five built-in message types are active. Default true.
    pub builtin: bool,
    /// Components to load at the start for all tenants. Their kinds go before the built-in ones.
    pub files: Vec<PathBuf>,
}

/// Bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sockets at once. Default 50,000; a further one is closed with 4100.
    pub connections: usize,
    /// Of them, those of one tenant. Default: all.
    pub tenant_connections: Option<usize>,
    /// Of them, those of one member. Default 100.
    pub member_connections: usize,
    /// Of them, those from one address. Default: half of all, 1,024 at least.
    pub address_connections: Option<usize>,
    /// Bytes that may wait for one socket. Default 1 MiB.
    pub outbound_bytes: usize,
    /// Channels one socket may be in. Default 1,000.
    pub subscriptions: usize,
    /// From one ping of the broker to the next. Default 25 s; at least one, since clients are told it in whole seconds.
    pub ping_interval: Duration,
    /// How long a client has for its pong; then its socket is closed with 4201. Default 10 s.
    pub pong_timeout: Duration,
    /// How long a live socket has for a new token after its own has ended; then it is closed with 4001. Default 25 s.
    pub token_grace: Duration,
    /// How long a stopping broker lets what is under way finish. Default 10 s.
    pub drain: Duration,
}

/// Logging.
#[derive(Debug, Clone)]
pub struct Log {
    /// Default text.
    pub format: LogFormat,
    /// What is logged, as `info` or `info,switchboard=debug`. Default `info`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
