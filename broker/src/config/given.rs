//! Merges the sources of settings, in this order of precedence: flags, variables, the file, and the defaults.
//!
//! The only setting that it knows by name is the file itself; all others are rows of [`SETTINGS`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::OsStringValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::resolved::{Config, ConfigError, Secret, read_file};
use super::setting::{Fallback, Setting, Takes};
use super::settings::SETTINGS;
use super::values::{checked_secret, checked_token};

/// The file that is read if it exists and no other one was named.
pub const DEFAULT_FILE: &str = "switchboard.toml";

/// The values that were given, by name of the setting.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    file: Option<PathBuf>,
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Settings {
    /// Adds a value, as if its flag had been given.
    ///
    /// # Panics
    /// If there is no setting with this name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let name = setting.unwrap_or_else(|| panic!("no setting is called {name}")).name;
        self.values.entry(name).or_default().push(value.into());
        self
    }

    /// Names the file to read.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// The resulting configuration. `secret` is the value of `SWITCHBOARD_JWT_SECRET`; a file with a secret overrides it.
    ///
    /// # Errors
    /// The first value that is not valid, or conflicts with another one.
    pub fn resolve(self, secret: Option<Secret>) -> Result<Config, ConfigError> {
        let file = self.read_file()?;
        let mut config = Config::empty();
        for setting in SETTINGS {
            let given = self.values.get(setting.name).or_else(|| file.values.get(setting.name));
            setting.apply(&mut config, given.map(Vec::as_slice))?;
        }
        if config.data.is_embedded() && config.data.redis_url.is_some() {
            return Err(ConfigError::Missing {
                what: "a database for the cluster",
                hint: "nodes that share a Redis must share a Postgres; also set --database-url, or omit --redis-url",
            });
        }
        if let (None, Some(secret)) = (&config.auth.jwt_secret, secret) {
            config.auth.jwt_secret = Some(checked_secret(secret).map_err(of_variable("SWITCHBOARD_JWT_SECRET"))?);
        }
        Ok(config)
    }

    fn read_file(&self) -> Result<Settings, ConfigError> {
        let path = match &self.file {
            Some(path) => path.as_path(),
            None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
            None => return Ok(Settings::default()),
        };
        toml::from_str(&read_file(path)?)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })
    }
}

impl Config {
    /// Uses the operators' token from SWITCHBOARD_ADMIN_TOKEN, unless a file with a token was named.
    ///
    /// # Errors
    /// If the token is too short.
    pub fn with_admin_token(mut self, token: Option<Secret>) -> Result<Self, ConfigError> {
        if let (None, Some(token)) = (&self.listen.admin_token, token) {
            self.listen.admin_token = Some(checked_token(token).map_err(of_variable("SWITCHBOARD_ADMIN_TOKEN"))?);
        }
        Ok(self)
    }

    /// Uses the previous secret from SWITCHBOARD_JWT_PREVIOUS_SECRET, unless a file with it was named.
    ///
    /// # Errors
    /// If the secret is too short or easily guessed.
    pub fn with_previous_secret(mut self, secret: Option<Secret>) -> Result<Self, ConfigError> {
        if let (None, Some(secret)) = (&self.auth.previous_secret, secret) {
            let checked = checked_secret(secret).map_err(of_variable("SWITCHBOARD_JWT_PREVIOUS_SECRET"))?;
            self.auth.previous_secret = Some(checked);
        }
        Ok(self)
    }
}

fn of_variable(name: &'static str) -> impl Fn(String) -> ConfigError {
    move |reason| ConfigError::Value { name: name.to_owned(), reason }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .global(true)
            .env("SWITCHBOARD_CONFIG")
            .value_name("FILE")
            .value_parser(OsStringValueParser::new())
            .help(format!("The settings file [default: {DEFAULT_FILE}, if it exists]"));
        SETTINGS.iter().map(flag).fold(command.arg(file), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        // A variable that is set and empty counts as not set: files of variables often have such lines.
        let is_variable = |name| matches.value_source(name) == Some(ValueSource::EnvVariable);
        let file = matches.get_one::<OsString>("config").filter(|file| !(file.is_empty() && is_variable("config")));
        let mut given = Self { file: file.map(PathBuf::from), ..Self::default() };
        for Setting { name, .. } in SETTINGS {
            let Some(values) = matches.get_many::<String>(name) else { continue };
            let values: Vec<String> = values.cloned().collect();
            if !(is_variable(name) && values.iter().all(String::is_empty)) {
                given.values.insert(name, values);
            }
        }
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        Fallback::Text(text) | Fallback::Described(text) if !text.is_empty() => format!(" [default: {text}]"),
        Fallback::Text(_) | Fallback::Described(_) => String::new(),
    };
    let flag = Arg::new(setting.name)
        .long(setting.name)
        .global(true)
        .env(setting.variable())
        .value_name(setting.value)
        .help(format!("{}{default}", setting.help))
        .hide_env_values(setting.takes == Takes::Secret);
    match setting.takes {
        Takes::List => flag.action(ArgAction::Append).value_delimiter(','),
        Takes::Number => flag.value_parser(checked::<usize>),
        Takes::Switch => flag.value_parser(checked::<bool>),
        Takes::Text | Takes::Secret | Takes::SecretFile => flag,
    }
}

/// Whether a text is of a form; nothing at all, which only a variable may be, is looked at later.
fn checked<T: FromStr>(text: &str) -> Result<String, T::Err> {
    if text.is_empty() { Ok(String::new()) } else { text.parse::<T>().map(|_| text.to_owned()) }
}

/// A value in the file.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Settings, M::Error> {
        let mut given = Settings::default();
        while let Some(key) = map.next_key::<String>()? {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) else {
                return Err(M::Error::custom(format_args!("unknown key `{key}`")));
            };
            let expected = |form| M::Error::custom(format_args!("`{key}` must be {form}"));
            let values = match (setting.takes, map.next_value()?) {
                (Takes::List, Value::List(texts)) => texts,
                (Takes::Number, Value::Number(number)) => vec![number.to_string()],
                (Takes::Switch, Value::Switch(switch)) => vec![switch.to_string()],
                (Takes::Text | Takes::Secret | Takes::SecretFile, Value::Text(text)) => vec![text],
                (Takes::List, _) => return Err(expected("a list of strings")),
                (Takes::Number, _) => return Err(expected("a number")),
                (Takes::Switch, _) => return Err(expected("true or false")),
                (Takes::Text | Takes::Secret | Takes::SecretFile, _) => return Err(expected("a string")),
            };
            given.values.insert(setting.name, values);
        }
        Ok(given)
    }
}
