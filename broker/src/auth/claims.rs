//! The claims of a token, in SimpleJWT's format.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::model::{Timestamp, UserId, Username};

/// The `iss` of the broker's own tokens. Any other, or none, means an external issuer.
pub const ISSUER: &str = "switchboard";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// For sockets and requests.
    Access,
    /// For one new pair of tokens.
    Refresh,
}

/// The claims of a token with a valid signature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    pub token_type: TokenType,
    /// Seconds since the epoch. Some issuers write fractions, which are cut off.
    #[serde(deserialize_with = "seconds")]
    pub exp: i64,
    #[serde(default, deserialize_with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Not valid before this.
    #[serde(default, deserialize_with = "optional_seconds", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// A string, or a number that becomes its digits.
    #[serde(deserialize_with = "text_or_number")]
    pub user_id: UserId,
    /// The issuer's id of the tenant: a string, or a number that becomes its digits.
    #[serde(default, deserialize_with = "optional_text_or_number", skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The tenant's slug, not validated yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_name: Option<String>,
    /// The name for a member who is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Username>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// One audience or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// The `jti` of the refresh token that started the family. `None` for an external issuer's token, which starts one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Whether it was signed with the shared secret, not with an external issuer's key.
    #[serde(skip)]
    pub(super) shared: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    pub fn expires_at(&self) -> Timestamp {
        Timestamp(self.exp.saturating_mul(1000))
    }

    /// Whether somebody other than the broker issued it. The broker signs with the shared secret only; no other key
    /// makes a token its own, whatever issuer it names.
    pub fn is_external(&self) -> bool {
        !self.shared || self.iss.as_deref() != Some(ISSUER)
    }

    pub(super) fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            None => false,
            Some(Audience::One(one)) => one == audience,
            Some(Audience::Many(many)) => many.iter().any(|one| one == audience),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(i64),
    Broken(f64),
}

impl From<Seconds> for i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a float to an integer saturates, which is what is wanted")]
    fn from(seconds: Seconds) -> Self {
        match seconds {
            Seconds::Whole(seconds) => seconds,
            Seconds::Broken(seconds) => seconds as i64,
        }
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Seconds::deserialize(deserializer).map(Into::into)
}

fn optional_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<Seconds>::deserialize(deserializer)?.map(Into::into))
}

/// A text, or the digits of a whole number, of whatever size: an id must not change where it does not fit into a type. A
/// number that is not written as a whole one is no id.
fn text_or_digits(value: &RawValue) -> Result<String, serde_json::Error> {
    let written = value.get();
    let digits = written.strip_prefix('-').unwrap_or(written);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) && written != "-0" {
        return Ok(written.to_owned());
    }
    serde_json::from_str(written)
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
    let value = Box::<RawValue>::deserialize(deserializer)?;
    text_or_digits(&value).map_err(D::Error::custom)?.parse().map_err(D::Error::custom)
}

fn optional_text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<Box<RawValue>>::deserialize(deserializer)?;
    value.map(|value| text_or_digits(&value).map_err(D::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_digits_and_a_fraction_is_no_id() {
        let read = |id: &str| {
            let claims = format!(r#"{{"token_type":"access","exp":1,"user_id":{id},"tenant_id":{id}}}"#);
            serde_json::from_str::<Claims>(&claims).ok().map(|claims| (claims.user_id.to_string(), claims.tenant_id))
        };
        let digits = "9".repeat(64);
        for (id, text) in [
            ("7", "7"),
            ("0", "0"),
            ("-7", "-7"),
            (r#""7""#, "7"),
            (r#""1.5""#, "1.5"),
            (r#""\u00e9""#, "é"),
            ("9223372036854775808", "9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "18446744073709551616"),
            ("340282366920938463463374607431768211456", "340282366920938463463374607431768211456"),
            (&digits, &digits),
        ] {
            assert_eq!(read(id), Some((text.to_owned(), Some(text.to_owned()))), "{id}");
        }
        for id in ["1.5", "1.0", "1e3", "-0", "true", "[]", "{}", &"9".repeat(65), r#""""#, "null"] {
            assert_eq!(read(id), None, "{id}");
        }
    }
}
