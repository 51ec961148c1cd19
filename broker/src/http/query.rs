//! The query of a client's request.
//!
//! A parameter that is given twice is refused, whatever its name: of two values one would be ignored, and a proxy or a log
//! might have gone by that one. The size of a page is not something to fail about, so it is brought within its bounds.

use std::collections::HashSet;

use axum::extract::Query;
use axum::http::Uri;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::error::ApiError;
use super::paging::{MAX_PAGE, PAGE};

/// Reads the parameters; `expected` says in the refusal what they must be.
pub(super) fn read<T: DeserializeOwned>(uri: &Uri, expected: &'static str) -> Result<T, ApiError> {
    let bad = |message: String| ApiError::bad(None, message);
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| bad(expected.to_owned()))?;
    let mut names = HashSet::new();
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !names.insert(name.as_str())) {
        // The name is the client's own text, of any length.
        let name: String = name.chars().take(32).collect();
        return Err(bad(format!("give `{}` once", name.escape_debug())));
    }
    Query::<T>::try_from_uri(uri).map(|Query(read)| read).map_err(|_| bad(expected.to_owned()))
}

/// The size of a page: 1 to [`MAX_PAGE`] items. A whole number outside counts as the nearest that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit(pub(super) u32);

impl Default for Limit {
    fn default() -> Self {
        Self(PAGE)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(D::Error::custom("not a whole number"));
        }
        if text.len() > digits.len() {
            return Ok(Self(1));
        }
        // What is no number of this size is larger than any page.
        Ok(Self(digits.parse().unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Given {
        #[serde(default)]
        limit: Limit,
    }

    fn given(query: &str) -> Result<u32, String> {
        let uri: Uri = format!("/api/channels/{query}").parse().unwrap();
        read::<Given>(&uri, "`limit` must be a number").map(|given| given.limit.0).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn the_size_of_a_page_is_brought_within_its_bounds() {
        for (query, limit) in [
            ("", 50),
            ("?limit=1", 1),
            ("?limit=007", 7),
            ("?limit=100", 100),
            ("?limit=101", 100),
            ("?limit=99999999999999999999999", 100),
            ("?limit=0", 1),
            ("?limit=-5", 1),
            ("?limit=-99999999999999999999999", 1),
        ] {
            assert_eq!(given(query).as_ref(), Ok(&limit), "{query}");
        }
        for query in ["?limit=", "?limit=-", "?limit=x", "?limit=1.5", "?limit=1e2", "?limit=+5", "?limit=%205"] {
            assert!(given(query).is_err_and(|error| error.contains("must be a number")), "{query}");
        }
    }

    #[test]
    fn a_parameter_is_given_once() {
        for query in ["?limit=1&limit=1", "?limit=1&x=1&%6Cimit=2", "?x=1&x=2", "?x&x"] {
            assert!(given(query).is_err_and(|error| error.contains("once")), "{query}");
        }
        assert_eq!(given("?x=1&limit=2&y=limit"), Ok(2));
        let long = given(&format!("?{0}&{0}", "x".repeat(1_000))).unwrap_err();
        assert!(long.len() < 300, "{long}");
    }
}
