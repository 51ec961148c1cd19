//! The settings as they are given, and how they become a [`Config`].

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;

use super::resolved::{
    Auth, Config, ConfigError, Data, Limits, Listen, Log, LogFormat, MIN_SECRET_BYTES, MIN_TOKEN_BYTES, Plugins, Secret,
};

/// The file that is read when it is there and none was named.
pub const DEFAULT_FILE: &str = "switchboard.toml";

/// What is logged by default: of the migrations only what goes wrong, since every start looks at every tenant.
const DEFAULT_FILTER: &str = "info,refinery_core=warn";

/// What may be set, each as a flag, a variable or a key of the file. `None` means: not given there.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The settings file [default: switchboard.toml, if there is one]
    #[arg(long, global = true, env = "SWITCHBOARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Address for clients [default: 127.0.0.1:8080]
    #[arg(long, global = true, env = "SWITCHBOARD_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Address for operators: metrics, readiness and plugins [default: 127.0.0.1:8081]
    #[arg(long, global = true, env = "SWITCHBOARD_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<String>,

    /// File with the token of the operators' API (or the token itself in SWITCHBOARD_ADMIN_TOKEN)
    #[arg(long, global = true, env = "SWITCHBOARD_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Folder for compiled plugins and, without a database URL, for everything [default: ./data]
    #[arg(long, global = true, env = "SWITCHBOARD_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,

    /// Postgres, as postgres://user:password@host/database [default: embedded SQLite]
    #[arg(long, global = true, env = "SWITCHBOARD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Redis, as redis://:password@host/ ; makes this broker a node of a cluster [default: one node]
    #[arg(long, global = true, env = "SWITCHBOARD_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<String>,

    /// File with the secret of HS256 tokens (or the secret itself in SWITCHBOARD_JWT_SECRET)
    #[arg(long, global = true, env = "SWITCHBOARD_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,

    /// File with the public keys of external token issuers, a JSON Web Key Set
    #[arg(long, global = true, env = "SWITCHBOARD_JWKS_FILE", value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,

    /// Refuse external tokens with another `iss`
    #[arg(long, global = true, env = "SWITCHBOARD_JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,

    /// Refuse external tokens without this `aud`
    #[arg(long, global = true, env = "SWITCHBOARD_JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,

    /// Make the member that a valid external token names [default: true]
    #[arg(long, global = true, env = "SWITCHBOARD_AUTO_PROVISION", value_name = "BOOL")]
    pub auto_provision: Option<bool>,

    /// Life of an access token [default: 5m]
    #[arg(long, global = true, env = "SWITCHBOARD_ACCESS_TTL", value_name = "DURATION")]
    pub access_ttl: Option<String>,

    /// Life of a refresh token [default: 1d]
    #[arg(long, global = true, env = "SWITCHBOARD_REFRESH_TTL", value_name = "DURATION")]
    pub refresh_ttl: Option<String>,

    /// Origin that browsers may come from; may be repeated [default: the page's own host]
    #[arg(long, global = true, env = "SWITCHBOARD_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    #[serde(default)]
    pub allowed_origin: Vec<String>,

    /// Proxy, or network of proxies, whose `X-Forwarded-For` says who is behind it; may be repeated [default: nobody]
    #[arg(long, global = true, env = "SWITCHBOARD_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',')]
    #[serde(default)]
    pub trusted_proxy: Vec<String>,

    /// Component to load at the start for all tenants, before the built-in ones; may be repeated
    #[arg(long, global = true, env = "SWITCHBOARD_PLUGIN", value_name = "FILE", value_delimiter = ',')]
    #[serde(default)]
    pub plugin: Vec<PathBuf>,

    /// Whether the built-in message types are active [default: true]
    #[arg(long, global = true, env = "SWITCHBOARD_BUILTIN_PLUGINS", value_name = "BOOL")]
    pub builtin_plugins: Option<bool>,

    /// Sockets at once [default: 50000]
    #[arg(long, global = true, env = "SWITCHBOARD_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub max_connections: Option<usize>,

    /// Of them, those of one tenant [default: all]
    #[arg(long, global = true, env = "SWITCHBOARD_MAX_CONNECTIONS_PER_TENANT", value_name = "NUMBER")]
    pub max_connections_per_tenant: Option<usize>,

    /// Of them, those of one member [default: 100]
    #[arg(long, global = true, env = "SWITCHBOARD_MAX_CONNECTIONS_PER_MEMBER", value_name = "NUMBER")]
    pub max_connections_per_member: Option<usize>,

    /// Of them, those from one address [default: half of all, 1024 at least]
    #[arg(long, global = true, env = "SWITCHBOARD_MAX_CONNECTIONS_PER_ADDRESS", value_name = "NUMBER")]
    pub max_connections_per_address: Option<usize>,

    /// Time from one ping of the broker to the next, at least 1s [default: 25s]
    #[arg(long, global = true, env = "SWITCHBOARD_PING_INTERVAL", value_name = "DURATION")]
    pub ping_interval: Option<String>,

    /// How long a client has for its pong [default: 10s]
    #[arg(long, global = true, env = "SWITCHBOARD_PONG_TIMEOUT", value_name = "DURATION")]
    pub pong_timeout: Option<String>,

    /// How long an open socket has for a new token after its own has ended [default: 25s]
    #[arg(long, global = true, env = "SWITCHBOARD_TOKEN_GRACE", value_name = "DURATION")]
    pub token_grace: Option<String>,

    /// How long a stopping broker lets what is under way finish [default: 10s]
    #[arg(long, global = true, env = "SWITCHBOARD_DRAIN", value_name = "DURATION")]
    pub drain: Option<String>,

    /// How log lines look [default: text]
    #[arg(long, global = true, env = "SWITCHBOARD_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What is logged, as `info` or `info,switchboard=debug` [default: info]
    #[arg(long, global = true, env = "SWITCHBOARD_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl Settings {
    /// Fills in what the file and the defaults say. `secret` is what SWITCHBOARD_JWT_SECRET holds.
    pub fn resolve(self, secret: Option<Secret>) -> Result<Config, ConfigError> {
        let file = self.read_settings_file()?;
        let given = self.or(file);
        let data = Data {
            folder: given.data_dir.unwrap_or_else(|| PathBuf::from("data")),
            database_url: given.database_url.map(Secret::new),
            redis_url: given.redis_url.map(Secret::new),
        };
        if data.is_embedded() && data.redis_url.is_some() {
            return Err(ConfigError::Missing {
                what: "a database for the cluster",
                hint: "nodes on one Redis share one Postgres; set --database-url as well, or leave --redis-url out",
            });
        }
        let jwt_secret = match (&given.jwt_secret_file, secret) {
            (Some(path), _) => Some(checked_secret(Secret::new(read_file(path)?.trim()), "--jwt-secret-file")?),
            (None, Some(secret)) => Some(checked_secret(secret, "SWITCHBOARD_JWT_SECRET")?),
            (None, None) => None,
        };
        let admin_token = match &given.admin_token_file {
            Some(path) => Some(checked_token(Secret::new(read_file(path)?.trim()), "--admin-token-file")?),
            None => None,
        };
        Ok(Config {
            listen: Listen {
                public: address("--listen", given.listen.as_deref().unwrap_or("127.0.0.1:8080"))?,
                admin: address("--admin-listen", given.admin_listen.as_deref().unwrap_or("127.0.0.1:8081"))?,
                admin_token,
                allowed_origins: given.allowed_origin,
                trusted_proxies: given.trusted_proxy.iter().map(|text| network(text)).collect::<Result<_, _>>()?,
            },
            data,
            auth: Auth {
                jwt_secret,
                jwks_file: given.jwks_file,
                issuer: given.jwt_issuer,
                audience: given.jwt_audience,
                auto_provision: given.auto_provision.unwrap_or(true),
                access_ttl: duration("--access-ttl", given.access_ttl.as_deref().unwrap_or("5m"))?,
                refresh_ttl: duration("--refresh-ttl", given.refresh_ttl.as_deref().unwrap_or("1d"))?,
            },
            plugins: Plugins { builtin: given.builtin_plugins.unwrap_or(true), files: given.plugin },
            limits: Limits {
                connections: bounded("--max-connections", given.max_connections.unwrap_or(50_000))?,
                tenant_connections: given
                    .max_connections_per_tenant
                    .map(|most| bounded("--max-connections-per-tenant", most))
                    .transpose()?,
                member_connections: bounded(
                    "--max-connections-per-member",
                    given.max_connections_per_member.unwrap_or(100),
                )?,
                address_connections: given
                    .max_connections_per_address
                    .map(|most| bounded("--max-connections-per-address", most))
                    .transpose()?,
                outbound_bytes: 1024 * 1024,
                subscriptions: 1_000,
                ping_interval: ping_interval(given.ping_interval.as_deref().unwrap_or("25s"))?,
                pong_timeout: duration("--pong-timeout", given.pong_timeout.as_deref().unwrap_or("10s"))?,
                token_grace: duration("--token-grace", given.token_grace.as_deref().unwrap_or("25s"))?,
                drain: duration("--drain", given.drain.as_deref().unwrap_or("10s"))?,
            },
            log: Log {
                format: given.log_format.unwrap_or(LogFormat::Text),
                filter: given.log.unwrap_or_else(|| DEFAULT_FILTER.to_owned()),
            },
        })
    }

    fn read_settings_file(&self) -> Result<Settings, ConfigError> {
        let path = match &self.config {
            Some(path) => path.as_path(),
            None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
            None => return Ok(Settings::default()),
        };
        toml::from_str(&read_file(path)?)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })
    }

    fn or(self, file: Settings) -> Settings {
        let list = |given: Vec<String>, file: Vec<String>| if given.is_empty() { file } else { given };
        Settings {
            config: self.config,
            listen: self.listen.or(file.listen),
            admin_listen: self.admin_listen.or(file.admin_listen),
            admin_token_file: self.admin_token_file.or(file.admin_token_file),
            data_dir: self.data_dir.or(file.data_dir),
            database_url: self.database_url.or(file.database_url),
            redis_url: self.redis_url.or(file.redis_url),
            jwt_secret_file: self.jwt_secret_file.or(file.jwt_secret_file),
            jwks_file: self.jwks_file.or(file.jwks_file),
            jwt_issuer: self.jwt_issuer.or(file.jwt_issuer),
            jwt_audience: self.jwt_audience.or(file.jwt_audience),
            auto_provision: self.auto_provision.or(file.auto_provision),
            access_ttl: self.access_ttl.or(file.access_ttl),
            refresh_ttl: self.refresh_ttl.or(file.refresh_ttl),
            allowed_origin: list(self.allowed_origin, file.allowed_origin),
            trusted_proxy: list(self.trusted_proxy, file.trusted_proxy),
            plugin: if self.plugin.is_empty() { file.plugin } else { self.plugin },
            builtin_plugins: self.builtin_plugins.or(file.builtin_plugins),
            max_connections: self.max_connections.or(file.max_connections),
            max_connections_per_tenant: self.max_connections_per_tenant.or(file.max_connections_per_tenant),
            max_connections_per_member: self.max_connections_per_member.or(file.max_connections_per_member),
            max_connections_per_address: self.max_connections_per_address.or(file.max_connections_per_address),
            ping_interval: self.ping_interval.or(file.ping_interval),
            pong_timeout: self.pong_timeout.or(file.pong_timeout),
            token_grace: self.token_grace.or(file.token_grace),
            drain: self.drain.or(file.drain),
            log_format: self.log_format.or(file.log_format),
            log: self.log.or(file.log),
        }
    }
}

/// Reads `90s`, `5m`, `1h 30m`, `1d`: more than nothing, at most a year.
pub fn duration(name: &'static str, text: &str) -> Result<Duration, ConfigError> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let refused = || ConfigError::Value { name, reason: format!("`{text}` is no duration such as 90s, 5m, 1h or 1d") };
    let span: jiff::Span = text.parse().map_err(|_| refused())?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| refused())?;
    let duration = Duration::try_from(signed).map_err(|_| refused())?;
    if duration.is_zero() || duration > YEAR { Err(refused()) } else { Ok(duration) }
}

/// Clients are told it in whole seconds, so it is not less than one.
fn ping_interval(text: &str) -> Result<Duration, ConfigError> {
    let name = "--ping-interval";
    let interval = duration(name, text)?;
    if interval < Duration::from_secs(1) {
        return Err(ConfigError::Value { name, reason: format!("`{text}` is less than a second") });
    }
    Ok(interval)
}

fn bounded(name: &'static str, number: usize) -> Result<usize, ConfigError> {
    const MOST: usize = 1_000_000;
    if (1..=MOST).contains(&number) {
        return Ok(number);
    }
    Err(ConfigError::Value { name, reason: format!("`{number}` is not between 1 and {MOST}") })
}

/// A network such as `10.0.0.0/8`, or a single address.
fn network(text: &str) -> Result<IpNet, ConfigError> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| single()).map_err(|_| ConfigError::Value {
        name: "--trusted-proxy",
        reason: format!("`{text}` is neither an address such as 10.0.0.1 nor a network such as 10.0.0.0/8"),
    })
}

fn address(name: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Value {
        name,
        reason: format!("`{text}` is no address such as 127.0.0.1:8080 or [::]:8080"),
    })
}

impl Config {
    /// Takes the operators' token from SWITCHBOARD_ADMIN_TOKEN, unless a file with one was named.
    ///
    /// # Errors
    ///
    /// When it is too short.
    pub fn with_admin_token(mut self, token: Option<Secret>) -> Result<Self, ConfigError> {
        if let (None, Some(token)) = (&self.listen.admin_token, token) {
            self.listen.admin_token = Some(checked_token(token, "SWITCHBOARD_ADMIN_TOKEN")?);
        }
        Ok(self)
    }
}

/// Reads a file that must be there, as text.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

/// A token of operators that is long enough not to be guessed.
fn checked_token(token: Secret, name: &'static str) -> Result<Secret, ConfigError> {
    let printable = token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    if token.reveal().len() < MIN_TOKEN_BYTES || !printable {
        let reason = format!("a token has at least {MIN_TOKEN_BYTES} printable ASCII characters, none of them a blank");
        return Err(ConfigError::Value { name, reason });
    }
    Ok(token)
}

fn checked_secret(secret: Secret, name: &'static str) -> Result<Secret, ConfigError> {
    if secret.reveal().len() < MIN_SECRET_BYTES {
        let reason = format!("a shared secret has at least {MIN_SECRET_BYTES} bytes, as HS256 needs them");
        return Err(ConfigError::Value { name, reason });
    }
    Ok(secret)
}
