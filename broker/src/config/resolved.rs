//! The configuration with which a broker starts, checked. It is the result of [`Settings`](super::Settings).

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::origin::AllowedOrigin;
use super::rate::RateLimits;
use crate::model::TenantSlug;

/// Minimum length of a shared secret: HS256 requires as many bits as its hash has (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Minimum length of the operators' token: 16 hexadecimal digits are 64 bits.
pub const MIN_TOKEN_BYTES: usize = 16;

/// What is wrong with the settings, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The settings file is not TOML, or has an unknown key.
    #[error("failed to parse {path}: {source}")]
    Toml {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("failed to read the setting {name}: {reason}")]
    Value { name: String, reason: String },
    /// The limit of open files is too low.
    #[error(
        "failed to start with {all} open files and connections: a broker needs {least}; raise the limit with ulimit -n"
    )]
    Descriptors {
        /// The limit.
        all: usize,
        /// The minimum that a broker needs.
        least: usize,
    },
    /// A setting is missing that other settings require.
    #[error("failed to find {what}: {hint}")]
    Missing { what: &'static str, hint: &'static str },
}

/// A secret, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The configuration of a broker.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Listen,
    pub data: Data,
    pub auth: Auth,
    pub plugins: Plugins,
    pub limits: Limits,
    pub rates: RateLimits,
    pub log: Log,
}

impl Config {
    /// A configuration in which nothing is set yet: the defaults of the settings are applied first.
    pub(super) fn empty() -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            listen: Listen {
                public: nowhere,
                admin: nowhere,
                admin_token: None,
                allowed_origins: Vec::new(),
                trusted_proxies: Vec::new(),
            },
            data: Data { folder: PathBuf::new(), database_url: None, redis_url: None },
            auth: Auth {
                jwt_secret: None,
                previous_secret: None,
                jwks_file: None,
                jwks_url: None,
                key_bindings: Vec::new(),
                issuer: None,
                audience: None,
                auto_provision: false,
                exchange_external: false,
                leeway: Duration::ZERO,
                external_ttl: Duration::ZERO,
                access_ttl: Duration::ZERO,
                refresh_ttl: Duration::ZERO,
            },
            plugins: Plugins { builtin: false, files: Vec::new() },
            limits: Limits {
                connections: 0,
                tenant_connections: None,
                member_connections: 0,
                address_connections: None,
                outbound_bytes: 1024 * 1024,
                unfinished_bytes: 64 * 1024 * 1024,
                subscriptions: 1_000,
                ping_interval: Duration::ZERO,
                pong_timeout: Duration::ZERO,
                token_grace: Duration::ZERO,
                drain: Duration::ZERO,
            },
            rates: RateLimits::default(),
            log: Log { format: LogFormat::Text, filter: String::new() },
        }
    }

    /// Checks that there is a secret to sign tokens with. Commands that need none, such as `tenant create`, do not call it.
    ///
    /// # Errors
    ///
    /// If there is none. Embedded mode generates its own.
    pub fn require_secret(&self) -> Result<(), ConfigError> {
        if self.auth.jwt_secret.is_some() || self.data.is_embedded() {
            return Ok(());
        }
        Err(ConfigError::Missing {
            what: "the secret that signs tokens",
            hint: "set SWITCHBOARD_JWT_SECRET to at least 32 random bytes, or --jwt-secret-file to a file with them \
                   (openssl rand -hex 32 generates them)",
        })
    }
}

/// Settings of the listeners.
#[derive(Debug, Clone)]
pub struct Listen {
    /// For clients. Default `127.0.0.1:8080`; port 0 picks a free one.
    pub public: SocketAddr,
    /// For operators: metrics, readiness and plugins. Default `127.0.0.1:8081`.
    pub admin: SocketAddr,
    /// The token for changing plugins. `None`: embedded mode generates one in the data folder at its first start; in other
    /// modes, nobody can change plugins.
    pub admin_token: Option<Secret>,
    /// Origins from which browsers may use the broker, besides that of the host that they connect to.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Proxies whose `X-Forwarded-For` to trust. Default: nobody.
    pub trusted_proxies: Vec<IpNet>,
}

/// Settings of durable state.
#[derive(Debug, Clone)]
pub struct Data {
    /// Default `./data`. Holds compiled plugins and, in embedded mode, all data.
    pub folder: PathBuf,
    /// `None`: embedded mode, with one SQLite file per tenant below the folder.
    pub database_url: Option<Secret>,
    /// `None`: a single node.
    pub redis_url: Option<Secret>,
}

impl Data {
    /// Whether the broker runs without other services.
    pub fn is_embedded(&self) -> bool {
        self.database_url.is_none()
    }
}

/// Settings of tokens.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The secret shared with other issuers of tokens; at least [`MIN_SECRET_BYTES`]. `None`: embedded mode generates one in
    /// the data folder at its first start.
    pub jwt_secret: Option<Secret>,
    /// A secret that verifies tokens and signs none: the one before or after `jwt_secret`, while it is being changed.
    pub previous_secret: Option<Secret>,
    /// Public keys of external issuers, a JSON Web Key Set. Read again when the file changes.
    pub jwks_file: Option<PathBuf>,
    /// Where to fetch a further key set from, again and again.
    pub jwks_url: Option<KeySetUrl>,
    /// What keys may be used for. A key without a binding signs for every tenant and issuer.
    pub key_bindings: Vec<KeyBinding>,
    /// If set, the broker refuses tokens of other issuers, except its own.
    pub issuer: Option<String>,
    /// If set, external tokens must be for this audience.
    pub audience: Option<String>,
    /// Whether a valid external token creates the member that it names. Default true.
    pub auto_provision: bool,
    /// Whether refresh tokens of external issuers are exchanged for tokens of the broker. Default false.
    pub exchange_external: bool,
    /// By how much the clocks of issuers may be ahead: for `nbf` and `iat`. Default 10 s, at most 30 s.
    pub leeway: Duration,
    /// Longest lifetime of an external token. Default 90 days.
    pub external_ttl: Duration,
    /// Lifetime of an access token. Default 5 minutes, as in SimpleJWT.
    pub access_ttl: Duration,
    /// Lifetime of a refresh token. Default 1 day, as in SimpleJWT.
    pub refresh_ttl: Duration,
}

/// The address of a key set: `https`, or `http` on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetUrl(String);

impl KeySetUrl {
    /// # Errors
    ///
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let uri: hyper::Uri = text.parse().map_err(|_| format!("`{text}` is not a URL"))?;
        let host = uri.host().unwrap_or_default();
        let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        match uri.scheme_str() {
            Some("https") if !host.is_empty() => Ok(Self(text.to_owned())),
            // Whoever can change what comes over the network could name keys of their own.
            Some("http") if is_local => Ok(Self(text.to_owned())),
            _ => Err(format!("`{text}` must begin with https:// (http:// is for this machine only)")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What one key may be used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBinding {
    /// The `kid` of the key in a key set.
    pub key: String,
    /// The only tenants for which it signs; empty for all.
    pub tenants: Vec<TenantSlug>,
    /// The only `iss` for which it signs.
    pub issuer: Option<String>,
}

impl KeyBinding {
    /// Parses `kid=KID [tenant=SLUG]… [issuer=ISS]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form kid=KID [tenant=SLUG]… [issuer=ISS]");
        let (mut key, mut tenants, mut issuer) = (None, Vec::new(), None);
        for pair in text.split_whitespace() {
            match pair.split_once('=').ok_or_else(form)? {
                ("kid", kid) if key.is_none() && !kid.is_empty() => key = Some(kid.to_owned()),
                ("tenant", slug) => tenants.push(slug.parse().map_err(|error| format!("`{slug}`: a tenant {error}"))?),
                ("issuer", iss) if issuer.is_none() && !iss.is_empty() => issuer = Some(iss.to_owned()),
                _ => return Err(form()),
            }
        }
        let key = key.ok_or_else(form)?;
        if tenants.is_empty() && issuer.is_none() {
            return Err(format!("`{text}` binds the key to nothing: add tenant=SLUG or issuer=ISS"));
        }
        Ok(Self { key, tenants, issuer })
    }
}

impl fmt::Display for KeyBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kid={}", self.key)?;
        self.tenants.iter().try_for_each(|tenant| write!(f, " tenant={tenant}"))?;
        self.issuer.iter().try_for_each(|issuer| write!(f, " issuer={issuer}"))
    }
}

/// Settings of plugins.
#[derive(Debug, Clone)]
pub struct Plugins {
    /// Whether to load the five built-in message types. Default true.
    pub builtin: bool,
    /// Components to load at the start for all tenants. Their kinds take precedence over the built-in ones.
    pub files: Vec<PathBuf>,
}

/// Limits of a socket and of the process.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of sockets. Default 50,000; the broker closes any further socket with 4100.
    pub connections: usize,
    /// Maximum number of sockets per tenant. Default: all.
    pub tenant_connections: Option<usize>,
    /// Maximum number of sockets per member. Default 100.
    pub member_connections: usize,
    /// Maximum number of sockets per client address. Default: half of all, 1,024 at least.
    pub address_connections: Option<usize>,
    /// Maximum number of bytes that wait for one socket. Default 1 MiB.
    pub outbound_bytes: usize,
    /// Maximum number of bytes of messages that have begun to arrive and are not complete, over all sockets. Default 64 MiB.
    pub unfinished_bytes: usize,
    /// Maximum number of channels per socket. Default 1,000.
    pub subscriptions: usize,
    /// Time between pings of the broker. Default 25 s; at least 1 s, because clients are told it in whole seconds.
    pub ping_interval: Duration,
    /// Time for a client to answer a ping; after that, the broker closes its socket with 4201. Default 10 s.
    pub pong_timeout: Duration,
    /// Time for an open socket whose token has expired to present a new one; after that, the broker closes it with 4001.
    /// Default 25 s.
    pub token_grace: Duration,
    /// Maximum time that stopping may take. Default 10 s.
    pub drain: Duration,
}

/// Settings of the log.
#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    /// What to log, such as `info` or `info,switchboard=debug`. Default `info,refinery_core=warn`.
    pub filter: String,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people. The default.
    Text,
    /// One JSON object per line.
    Json,
}

/// Reads a file as text.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}
