//! The values of settings: from their text, and back for those who look.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::resolved::{ConfigError, MIN_SECRET_BYTES, MIN_TOKEN_BYTES, Secret, read_file};
use super::setting::Refused;
use super::weak::why_weak;

/// Checks that the operators' token is too long to guess.
pub(super) fn checked_token(token: Secret) -> Result<Secret, String> {
    let printable = token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    if token.reveal().len() < MIN_TOKEN_BYTES || !printable {
        return Err(format!(
            "a token must have at least {MIN_TOKEN_BYTES} printable ASCII characters and no whitespace"
        ));
    }
    if let Some(reason) = why_weak(token.reveal()) {
        return Err(format!("the token can be guessed: {reason}; openssl rand -hex 32 generates a good one"));
    }
    Ok(token)
}

pub(super) fn checked_secret(secret: Secret) -> Result<Secret, String> {
    if secret.reveal().len() < MIN_SECRET_BYTES {
        return Err(format!("HS256 requires a shared secret of at least {MIN_SECRET_BYTES} bytes"));
    }
    if let Some(reason) = why_weak(secret.reveal()) {
        return Err(format!("the shared secret can be guessed: {reason}; openssl rand -hex 32 generates a good one"));
    }
    Ok(secret)
}

/// Parses a duration such as `90s`, `5m`, `1h 30m` or `1d`: more than zero, and at most a year. `name` is the setting for
/// the error.
pub fn duration(name: &str, text: &str) -> Result<Duration, ConfigError> {
    time(text).map_err(|reason| ConfigError::Value { name: name.to_owned(), reason })
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let refused = || format!("`{text}` is not a duration such as 90s, 5m, 1h or 1d");
    let span: jiff::Span = text.parse().map_err(|_| refused())?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| refused())?;
    let duration = Duration::try_from(signed).map_err(|_| refused())?;
    if duration.is_zero() || duration > YEAR { Err(refused()) } else { Ok(duration) }
}

pub(super) fn bounded(text: &str) -> Result<usize, String> {
    const MOST: usize = 1_000_000;
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number from 1 to {MOST}"))
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
}

/// Parses a network such as `10.0.0.0/8`, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| single())
        .map_err(|_| format!("`{text}` is neither an address such as 10.0.0.1 nor a network such as 10.0.0.0/8"))
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address such as 127.0.0.1:8080 or [::]:8080"))
}

pub(super) fn secret_file(path: &str) -> Result<Secret, Refused> {
    let text = read_file(path.as_ref()).map_err(Refused::File)?;
    Ok(Secret::new(trimmed(&text)))
}

/// A text without whitespace around it, and without the byte order mark that some editors write.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|char: char| char.is_whitespace() || char == '\u{feff}')
}

pub(super) fn set_or(is_set: bool, otherwise: &str) -> String {
    if is_set { "(set)" } else { otherwise }.to_owned()
}

pub(super) fn number_or(number: Option<usize>, otherwise: &str) -> String {
    number.map_or_else(|| otherwise.to_owned(), |number| number.to_string())
}

pub(super) fn list(items: impl IntoIterator<Item = impl ToString>, none: &str) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { none.to_owned() } else { items.join(", ") }
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}
