//! Lists: `{"next","previous","results":[…]}`.

use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;

/// How many items a page has when the client does not say.
pub(super) const PAGE: u32 = 50;

/// How many items a page has at most.
pub(super) const MAX_PAGE: u32 = 100;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The path of the page after this one.
    pub(super) next: Option<String>,
    /// The path of the page before this one.
    pub(super) previous: Option<String>,
    /// The items.
    pub(super) results: Vec<T>,
}

impl<T> Page<T> {
    /// A list that is always one page.
    pub(super) fn whole(results: Vec<T>) -> Self {
        Self { next: None, previous: None, results }
    }
}

/// The size of a page: 1 to [`MAX_PAGE`] items.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, ApiError> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        _ => Err(ApiError::bad(Some("limit"), "a page has 1 to 100 items")),
    }
}

/// The path of another page of the same list. Values are ids and numbers; what is no letter or digit is escaped.
pub(super) fn link(uri: &Uri, limit: u32, name: &str, value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    format!("{}?limit={limit}&{name}={escaped}", uri.path())
}
