//! The claims of a token, in SimpleJWT's format.

use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::model::{TenantSlug, Timestamp, TokenId, UserId, Username};

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
    /// `iat` in milliseconds, in the broker's own tokens: a token of the second in which its member was dismissed is from
    /// before or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat_ms: Option<i64>,
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
    /// The member's name at the issuer. A name that is not allowed here counts as none: it must not keep a member out.
    #[serde(default, deserialize_with = "optional_name", skip_serializing_if = "Option::is_none")]
    pub username: Option<Username>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// One audience or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// The `jti` of the refresh token that started the family: all tokens of one log-in. `None` for an external issuer's
    /// token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Whether it was signed with the shared secret, not with an external issuer's key.
    #[serde(skip)]
    pub(super) shared: bool,
    /// The only tenants that the key may sign for.
    #[serde(skip)]
    pub(super) tenants: Option<Arc<[TenantSlug]>>,
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

    /// Whether the key that signed the token may sign for a tenant.
    pub fn may_be_for(&self, tenant: &TenantSlug) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }

    /// By what the token can be revoked. An external refresh token starts a family of its own.
    pub fn token_id(&self) -> TokenId {
        let exact = self.iat_ms.filter(|_| !self.is_external());
        let starts = || self.jti.clone().filter(|_| self.token_type == TokenType::Refresh);
        TokenId {
            issued_at: exact.or(self.iat.map(|seconds| seconds.saturating_mul(1000))).map(Timestamp),
            jti: self.jti.clone(),
            family: self.family.clone().or_else(starts),
        }
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

fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Username>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(name) => name.parse().ok(),
        _ => None,
    })
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
