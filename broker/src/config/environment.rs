//! What the environment says beyond flags: secrets, and variables that look like settings and are none.

use std::env;

use super::resolved::{ConfigError, Secret};
use super::setting::Takes;
use super::settings::SETTINGS;
use super::values::trimmed;

/// What the names of all variables begin with.
const PREFIX: &str = "SWITCHBOARD_";

/// Variables of the command line that no setting has.
const OTHERS: [&str; 2] = ["SWITCHBOARD_CONFIG", "SWITCHBOARD_ADMIN_URL"];

/// The secret in a variable, trimmed as one in a file is. A variable that is empty counts as not set.
///
/// # Errors
/// If it is not UTF-8.
pub fn secret_variable(name: &'static str) -> Result<Option<Secret>, ConfigError> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    let refused = || ConfigError::Value { name: name.to_owned(), reason: "it is not UTF-8".to_owned() };
    let text = value.to_str().map(trimmed).ok_or_else(refused)?;
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

/// The variables of this process that no setting has, by name. A misspelt one would otherwise change nothing in silence.
pub fn unknown_variables() -> Vec<String> {
    let mut unknown = unknown(env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    unknown.sort_unstable();
    unknown
}

fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_known = |name: &str| {
        OTHERS.contains(&name)
            || SETTINGS.iter().any(|setting| {
                let variable = setting.variable();
                // Where a variable names a file with a secret, another one takes the secret itself.
                let itself = || setting.takes == Takes::SecretFile && variable.strip_suffix("_FILE") == Some(name);
                name == variable || itself()
            })
    };
    names.filter(|name| name.starts_with(PREFIX) && !is_known(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_known_and_a_misspelt_one_is_not() {
        let known = SETTINGS.iter().map(super::super::Setting::variable);
        let secrets = ["SWITCHBOARD_JWT_SECRET", "SWITCHBOARD_JWT_PREVIOUS_SECRET", "SWITCHBOARD_ADMIN_TOKEN"];
        let known = known.chain(OTHERS.into_iter().chain(secrets).map(str::to_owned));
        assert_eq!(unknown(known), [""; 0]);
        let given = ["SWITCHBOARD_LISTN", "SWITCHBOARD_JWKS", "HOME", "switchboard_listen"].map(str::to_owned);
        assert_eq!(unknown(given.into_iter()), ["SWITCHBOARD_LISTN", "SWITCHBOARD_JWKS"]);
    }
}
