//! The settings: where each may be given, what it defaults to, and what does not go together.
//!
//! Every setting is a flag, an environment variable and a key of the optional file, in this order of precedence, under
//! one name: `--database-url`, `SWITCHBOARD_DATABASE_URL`, `database-url`. Secrets are files or variables, never flags,
//! since everyone on a machine can read a command line. Nothing here opens a connection.

mod descriptors;
mod resolved;
mod settings;

pub use descriptors::Descriptors;
pub use resolved::{
    Auth, Config, ConfigError, Data, Limits, Listen, Log, LogFormat, MIN_SECRET_BYTES, MIN_TOKEN_BYTES, Plugins, Secret,
};
pub use settings::{DEFAULT_FILE, Settings, duration, read_file};

#[cfg(test)]
mod tests;
