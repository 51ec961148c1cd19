//! The settings. Each is declared once, as a row of [`SETTINGS`], which makes it a flag, a variable, a key of the file and
//! a line of `--help` and of `config check`. To add a setting, add a field to [`Config`], a row here, and a row to the
//! table in docs/operations.md, which a test compares with this one.

use std::path::PathBuf;
use std::time::Duration;

use super::rate::ScopedRates;
use super::resolved::{KeyBinding, KeySetUrl, LogFormat, Secret};
use super::setting::{Fallback, Refused, Setting, Takes};
use super::values::{
    address, bounded, checked_secret, checked_token, list, network, number_or, seconds, secret_file, set_or, switch,
    time,
};

/// A clock that is further ahead than this needs repair.
const MAX_LEEWAY: Duration = Duration::from_secs(30);

/// All settings, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        value: "ADDRESS",
        default: Fallback::Text("127.0.0.1:8080"),
        help: "Address for clients",
        takes: Takes::Text,
        set: |config, given| {
            config.listen.public = address(&given[0])?;
            Ok(())
        },
        show: |config| config.listen.public.to_string(),
    },
    Setting {
        name: "admin-listen",
        value: "ADDRESS",
        default: Fallback::Text("127.0.0.1:8081"),
        help: "Address for operators: metrics, readiness and plugins",
        takes: Takes::Text,
        set: |config, given| {
            config.listen.admin = address(&given[0])?;
            Ok(())
        },
        show: |config| config.listen.admin.to_string(),
    },
    Setting {
        name: "admin-token-file",
        value: "FILE",
        default: Fallback::Described(""),
        help: "File with the token of the operators' API (or set SWITCHBOARD_ADMIN_TOKEN to the token itself)",
        takes: Takes::SecretFile,
        set: |config, given| {
            config.listen.admin_token = Some(checked_token(secret_file(&given[0])?)?);
            Ok(())
        },
        show: |config| match (config.listen.admin_token.is_some(), config.data.is_embedded()) {
            (true, _) => "(set)".to_owned(),
            (false, true) => "(generated in the data folder)".to_owned(),
            (false, false) => "(none: plugins cannot be changed)".to_owned(),
        },
    },
    Setting {
        name: "data-dir",
        value: "FOLDER",
        default: Fallback::Text("data"),
        help: "Folder for compiled plugins and, without a database URL, for all data",
        takes: Takes::Text,
        set: |config, given| {
            config.data.folder = PathBuf::from(&given[0]);
            Ok(())
        },
        show: |config| config.data.folder.display().to_string(),
    },
    Setting {
        name: "database-url",
        value: "URL",
        default: Fallback::Described("embedded SQLite"),
        help: "Postgres, as postgres://user:password@host/database",
        takes: Takes::Secret,
        set: |config, given| {
            config.data.database_url = Some(Secret::new(&given[0]));
            Ok(())
        },
        show: |config| set_or(config.data.database_url.is_some(), "(none: embedded SQLite)"),
    },
    Setting {
        name: "redis-url",
        value: "URL",
        default: Fallback::Described("one node"),
        help: "Redis, as redis://:password@host/; makes this broker a node of a cluster",
        takes: Takes::Secret,
        set: |config, given| {
            config.data.redis_url = Some(Secret::new(&given[0]));
            Ok(())
        },
        show: |config| set_or(config.data.redis_url.is_some(), "(none: one node)"),
    },
    Setting {
        name: "jwt-secret-file",
        value: "FILE",
        default: Fallback::Described(""),
        help: "File with the secret of HS256 tokens (or set SWITCHBOARD_JWT_SECRET to the secret itself)",
        takes: Takes::SecretFile,
        set: |config, given| {
            config.auth.jwt_secret = Some(checked_secret(secret_file(&given[0])?)?);
            Ok(())
        },
        show: |config| set_or(config.auth.jwt_secret.is_some(), "(generated in the data folder)"),
    },
    Setting {
        name: "jwt-previous-secret-file",
        value: "FILE",
        default: Fallback::Described("none"),
        help: "File with a second secret that verifies HS256 tokens and signs none, for changing the secret \
               (or set SWITCHBOARD_JWT_PREVIOUS_SECRET to the secret itself)",
        takes: Takes::SecretFile,
        set: |config, given| {
            config.auth.previous_secret = Some(checked_secret(secret_file(&given[0])?)?);
            Ok(())
        },
        show: |config| set_or(config.auth.previous_secret.is_some(), "(none)"),
    },
    Setting {
        name: "jwks-file",
        value: "FILE",
        default: Fallback::Described("none"),
        help: "File with the public keys of external token issuers, a JSON Web Key Set",
        takes: Takes::Text,
        set: |config, given| {
            config.auth.jwks_file = Some(PathBuf::from(&given[0]));
            Ok(())
        },
        show: |config| config.auth.jwks_file.as_ref().map_or("(none)".to_owned(), |path| path.display().to_string()),
    },
    Setting {
        name: "jwks-url",
        value: "URL",
        default: Fallback::Described("none"),
        help: "Where to fetch the public keys of an external token issuer, such as https://id.example/jwks.json",
        takes: Takes::Text,
        set: |config, given| {
            config.auth.jwks_url = Some(KeySetUrl::parse(&given[0])?);
            Ok(())
        },
        show: |config| config.auth.jwks_url.as_ref().map_or("(none)".to_owned(), |url| url.as_str().to_owned()),
    },
    Setting {
        name: "jwt-key-binding",
        value: "BINDING",
        default: Fallback::Described("every key is for all"),
        help: "What a public key may sign for, as `kid=KID tenant=SLUG issuer=ISS`; may be repeated",
        takes: Takes::List,
        set: |config, given| {
            config.auth.key_bindings = given.iter().map(|text| KeyBinding::parse(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        show: |config| list(&config.auth.key_bindings, "(every key is for all)"),
    },
    Setting {
        name: "jwt-issuer",
        value: "TEXT",
        default: Fallback::Described("any"),
        help: "Refuse external tokens with a different `iss`",
        takes: Takes::Text,
        set: |config, given| {
            config.auth.issuer = Some(given[0].clone());
            Ok(())
        },
        show: |config| config.auth.issuer.clone().unwrap_or_else(|| "(any)".to_owned()),
    },
    Setting {
        name: "jwt-audience",
        value: "TEXT",
        default: Fallback::Described("any"),
        help: "Refuse external tokens without this `aud`",
        takes: Takes::Text,
        set: |config, given| {
            config.auth.audience = Some(given[0].clone());
            Ok(())
        },
        show: |config| config.auth.audience.clone().unwrap_or_else(|| "(any)".to_owned()),
    },
    Setting {
        name: "auto-provision",
        value: "BOOL",
        default: Fallback::Text("true"),
        help: "Create the member that a valid external token names, if it does not exist",
        takes: Takes::Switch,
        set: |config, given| {
            config.auth.auto_provision = switch(&given[0])?;
            Ok(())
        },
        show: |config| config.auth.auto_provision.to_string(),
    },
    Setting {
        name: "exchange-external-refresh",
        value: "BOOL",
        default: Fallback::Text("false"),
        help: "Exchange refresh tokens of external issuers for tokens of the broker",
        takes: Takes::Switch,
        set: |config, given| {
            config.auth.exchange_external = switch(&given[0])?;
            Ok(())
        },
        show: |config| config.auth.exchange_external.to_string(),
    },
    Setting {
        name: "jwt-leeway",
        value: "DURATION",
        default: Fallback::Text("10s"),
        help: "How far in the future `nbf` and `iat` of a token may be, at most 30s",
        takes: Takes::Text,
        set: |config, given| match time(&given[0])? {
            leeway if leeway > MAX_LEEWAY => Err(format!("`{}` is more than 30s", given[0]).into()),
            leeway => {
                config.auth.leeway = leeway;
                Ok(())
            }
        },
        show: |config| seconds(config.auth.leeway),
    },
    Setting {
        name: "max-external-ttl",
        value: "DURATION",
        default: Fallback::Text("90d"),
        help: "Longest lifetime of a token of an external issuer, at most a year",
        takes: Takes::Text,
        set: |config, given| {
            config.auth.external_ttl = time(&given[0])?;
            Ok(())
        },
        show: |config| seconds(config.auth.external_ttl),
    },
    Setting {
        name: "access-ttl",
        value: "DURATION",
        default: Fallback::Text("5m"),
        help: "Lifetime of an access token",
        takes: Takes::Text,
        set: |config, given| {
            config.auth.access_ttl = time(&given[0])?;
            Ok(())
        },
        show: |config| seconds(config.auth.access_ttl),
    },
    Setting {
        name: "refresh-ttl",
        value: "DURATION",
        default: Fallback::Text("1d"),
        help: "Lifetime of a refresh token",
        takes: Takes::Text,
        set: |config, given| {
            config.auth.refresh_ttl = time(&given[0])?;
            Ok(())
        },
        show: |config| seconds(config.auth.refresh_ttl),
    },
    Setting {
        name: "allowed-origin",
        value: "ORIGIN",
        default: Fallback::Described("none"),
        help: "Origin from which browsers may use the broker, besides its own host; may be repeated",
        takes: Takes::List,
        set: |config, given| {
            config.listen.allowed_origins = given.iter().map(|text| text.parse()).collect::<Result<_, String>>()?;
            Ok(())
        },
        show: |config| list(&config.listen.allowed_origins, "(none)"),
    },
    Setting {
        name: "trusted-proxy",
        value: "NETWORK",
        default: Fallback::Described("nobody"),
        help: "Proxy, or network of proxies, whose `X-Forwarded-For` to trust; may be repeated",
        takes: Takes::List,
        set: |config, given| {
            config.listen.trusted_proxies = given.iter().map(|text| network(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        show: |config| list(&config.listen.trusted_proxies, "(nobody)"),
    },
    Setting {
        name: "plugin",
        value: "FILE",
        default: Fallback::Described("none"),
        help: "Component to load at the start for all tenants, with precedence over the built-in ones; may be repeated",
        takes: Takes::List,
        set: |config, given| {
            config.plugins.files = given.iter().map(PathBuf::from).collect();
            Ok(())
        },
        show: |config| list(config.plugins.files.iter().map(|path| path.display()), "(none)"),
    },
    Setting {
        name: "builtin-plugins",
        value: "BOOL",
        default: Fallback::Text("true"),
        help: "Whether to load the built-in message types",
        takes: Takes::Switch,
        set: |config, given| {
            config.plugins.builtin = switch(&given[0])?;
            Ok(())
        },
        show: |config| config.plugins.builtin.to_string(),
    },
    Setting {
        name: "max-connections",
        value: "NUMBER",
        default: Fallback::Text("50000"),
        help: "Maximum number of sockets at once",
        takes: Takes::Number,
        set: |config, given| {
            config.limits.connections = bounded(&given[0])?;
            Ok(())
        },
        show: |config| config.limits.connections.to_string(),
    },
    Setting {
        name: "max-connections-per-tenant",
        value: "NUMBER",
        default: Fallback::Described("all"),
        help: "Maximum number of sockets per tenant",
        takes: Takes::Number,
        set: |config, given| {
            config.limits.tenant_connections = Some(bounded(&given[0])?);
            Ok(())
        },
        show: |config| number_or(config.limits.tenant_connections, "(all)"),
    },
    Setting {
        name: "max-connections-per-member",
        value: "NUMBER",
        default: Fallback::Text("100"),
        help: "Maximum number of sockets per member",
        takes: Takes::Number,
        set: |config, given| {
            config.limits.member_connections = bounded(&given[0])?;
            Ok(())
        },
        show: |config| config.limits.member_connections.to_string(),
    },
    Setting {
        name: "max-connections-per-address",
        value: "NUMBER",
        default: Fallback::Described("half of all, 1,024 at least"),
        help: "Maximum number of sockets per client address",
        takes: Takes::Number,
        set: |config, given| {
            config.limits.address_connections = Some(bounded(&given[0])?);
            Ok(())
        },
        show: |config| number_or(config.limits.address_connections, "(half of all, 1,024 at least)"),
    },
    Setting {
        name: "rate-frames",
        value: "RATES",
        default: Fallback::Text("member=2k/s:20k tenant=100k/s:200k address=100k/s:200k"),
        help: "Frames that clients may send on sockets, for each node",
        takes: Takes::Text,
        set: |config, given| rates(&mut config.rates.frames, given, "rate-frames"),
        show: |config| config.rates.frames.to_string(),
    },
    Setting {
        name: "rate-joins",
        value: "RATES",
        default: Fallback::Text("member=100/s:2k tenant=10k/s:100k address=2k/s:50k"),
        help: "Channels that sockets may join",
        takes: Takes::Text,
        set: |config, given| rates(&mut config.rates.joins, given, "rate-joins"),
        show: |config| config.rates.joins.to_string(),
    },
    Setting {
        name: "rate-log-ins",
        value: "RATES",
        default: Fallback::Text("member=10/m:10 tenant=100/s:1k address=5/s:300"),
        help: "Log-ins that may be tried; the member's limit is one for a name",
        takes: Takes::Text,
        set: |config, given| rates(&mut config.rates.log_ins, given, "rate-log-ins"),
        show: |config| config.rates.log_ins.to_string(),
    },
    Setting {
        name: "rate-channels",
        value: "RATES",
        default: Fallback::Text("member=10/m:100 tenant=100/s:1k address=10/s:1k"),
        help: "Channels that may be created over HTTP",
        takes: Takes::Text,
        set: |config, given| rates(&mut config.rates.channels, given, "rate-channels"),
        show: |config| config.rates.channels.to_string(),
    },
    Setting {
        name: "rate-body-bytes",
        value: "RATES",
        default: Fallback::Text("member=1M/s:16M tenant=100M/s:200M address=16M/s:64M"),
        help: "Bytes of request bodies",
        takes: Takes::Text,
        set: |config, given| rates(&mut config.rates.body_bytes, given, "rate-body-bytes"),
        show: |config| config.rates.body_bytes.to_string(),
    },
    Setting {
        name: "ping-interval",
        value: "DURATION",
        default: Fallback::Text("25s"),
        help: "Time between pings of the broker, at least 1s",
        takes: Takes::Text,
        // Clients are told this time in whole seconds.
        set: |config, given| match time(&given[0])? {
            interval if interval < Duration::from_secs(1) => {
                Err(format!("`{}` is less than a second", given[0]).into())
            }
            interval => {
                config.limits.ping_interval = interval;
                Ok(())
            }
        },
        show: |config| seconds(config.limits.ping_interval),
    },
    Setting {
        name: "pong-timeout",
        value: "DURATION",
        default: Fallback::Text("10s"),
        help: "Time for a client to answer a ping",
        takes: Takes::Text,
        set: |config, given| {
            config.limits.pong_timeout = time(&given[0])?;
            Ok(())
        },
        show: |config| seconds(config.limits.pong_timeout),
    },
    Setting {
        name: "token-grace",
        value: "DURATION",
        default: Fallback::Text("25s"),
        help: "Time for an open socket whose token has expired to present a new one",
        takes: Takes::Text,
        set: |config, given| {
            config.limits.token_grace = time(&given[0])?;
            Ok(())
        },
        show: |config| seconds(config.limits.token_grace),
    },
    Setting {
        name: "drain",
        value: "DURATION",
        default: Fallback::Text("10s"),
        help: "Maximum time that stopping may take",
        takes: Takes::Text,
        set: |config, given| {
            config.limits.drain = time(&given[0])?;
            Ok(())
        },
        show: |config| seconds(config.limits.drain),
    },
    Setting {
        name: "log-format",
        value: "FORMAT",
        default: Fallback::Text("text"),
        help: "Form of log lines: text, or json with one object per line",
        takes: Takes::Text,
        set: |config, given| {
            config.log.format = match given[0].as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => return Err(format!("`{other}` is neither text nor json").into()),
            };
            Ok(())
        },
        show: |config| if config.log.format == LogFormat::Json { "json" } else { "text" }.to_owned(),
    },
    // Migrations log every tenant at every start, so by default only their warnings are logged.
    Setting {
        name: "log",
        value: "FILTER",
        default: Fallback::Text("info,refinery_core=warn"),
        help: "What to log, such as `info` or `info,switchboard=debug`",
        takes: Takes::Text,
        set: |config, given| {
            config.log.filter = given[0].clone();
            Ok(())
        },
        show: |config| config.log.filter.clone(),
    },
];

/// What a text does not name keeps its default.
fn rates(into: &mut ScopedRates, given: &[String], name: &str) -> Result<(), Refused> {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    if let Some(Setting { default: Fallback::Text(default), .. }) = setting {
        into.change(default)?;
    }
    Ok(into.change(&given[0])?)
}
