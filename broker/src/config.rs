//! The settings: where each one can be set, its default, and which combinations are refused.
//!
//! Every setting is a flag, an environment variable and a key of the optional file, in this order of precedence, under
//! one name: `--database-url`, `SWITCHBOARD_DATABASE_URL`, `database-url`. Secrets come from files or variables, never
//! from flags, because everyone on a machine can read a command line. Nothing here opens a connection.

mod descriptors;
mod environment;
mod given;
mod origin;
mod rate;
mod resolved;
mod setting;
mod settings;
mod values;
mod weak;

pub use descriptors::Descriptors;
pub use environment::{secret_variable, unknown_variables};
pub use given::{DEFAULT_FILE, Settings};
pub use origin::{AllowedOrigin, is_allowed};
pub use rate::{Rate, RateLimits, ScopedRates};
pub use resolved::{
    Auth, Config, ConfigError, Data, KeyBinding, KeySetUrl, Limits, Listen, Log, LogFormat, MIN_SECRET_BYTES,
    MIN_TOKEN_BYTES, Plugins, Secret, read_file,
};
pub use setting::{Fallback, Setting, Takes};
pub use settings::SETTINGS;
pub use values::duration;

#[cfg(test)]
mod tests;
