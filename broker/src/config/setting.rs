//! What a setting is: its names, its default, how its text becomes a field of [`Config`], and how that is shown. The default
//! is parsed by the same function, so `--help` always shows the default that applies.

use super::resolved::{Config, ConfigError};

/// One setting.
pub struct Setting {
    /// Name of the flag, without its dashes, and of the key in the file.
    pub name: &'static str,
    /// Placeholder for its value in `--help`.
    pub value: &'static str,
    pub default: Fallback,
    /// One line for `--help`.
    pub help: &'static str,
    pub takes: Takes,
    /// Parses the values, of which there is at least one.
    pub(super) set: fn(&mut Config, &[String]) -> Result<(), Refused>,
    /// The effective value, for `config check`, which does not reveal secrets.
    pub(super) show: fn(&Config) -> String,
}

/// What applies if no value is given.
pub enum Fallback {
    /// This text, parsed as if it had been given.
    Text(&'static str),
    /// The behaviour that these words describe.
    Described(&'static str),
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Text,
    /// A text that `--help` does not show, even if its variable is set.
    Secret,
    /// The path of a file that holds a secret. A variable without `_FILE` takes the secret itself.
    SecretFile,
    Number,
    Switch,
    /// Any number of texts: a repeated flag, a comma-separated variable, or a list in the file.
    List,
}

/// Why a value is refused.
pub(super) enum Refused {
    /// The text is not valid.
    Value(String),
    /// The file that the text names cannot be used.
    File(ConfigError),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Refused::Value(reason)
    }
}

impl Setting {
    /// The environment variable: `SWITCHBOARD_MAX_CONNECTIONS` for `max-connections`.
    pub fn variable(&self) -> String {
        format!("SWITCHBOARD_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// The name and the effective value, for `config check`.
    pub fn shown(&self, config: &Config) -> (&'static str, String) {
        let name = if self.takes == Takes::SecretFile { self.name.trim_end_matches("-file") } else { self.name };
        (name, (self.show)(config))
    }

    /// Applies the given values, or the default if there are none.
    pub(super) fn apply(&self, config: &mut Config, given: Option<&[String]>) -> Result<(), ConfigError> {
        let result = match (given, &self.default) {
            (Some(given), _) if !given.is_empty() => (self.set)(config, given),
            (_, Fallback::Text(default)) => (self.set)(config, &[(*default).to_owned()]),
            (_, Fallback::Described(_)) => Ok(()),
        };
        result.map_err(|refused| match refused {
            Refused::Value(reason) => ConfigError::Value { name: format!("--{}", self.name), reason },
            Refused::File(error) => error,
        })
    }
}
