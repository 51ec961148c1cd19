//! Pages of lists: `{"next","previous","results":[…]}`.

use axum::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use utoipa::ToSchema;

/// Default number of items of a page.
pub(super) const PAGE: u32 = 50;

/// Maximum number of items of a page.
pub(super) const MAX_PAGE: u32 = 100;

/// What a value in a query is escaped for.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// Path of the next page; null if there is none.
    pub(super) next: Option<String>,
    /// Path of the previous page; null if there is none.
    pub(super) previous: Option<String>,
    /// The items of this page.
    pub(super) results: Vec<T>,
}

impl<T> Page<T> {
    /// A list that always fits on one page.
    pub(super) fn whole(results: Vec<T>) -> Self {
        Self { next: None, previous: None, results }
    }
}

/// The path of another page of the same list. Values are ids and numbers; anything but letters and digits is escaped.
pub(super) fn link(uri: &Uri, limit: u32, name: &str, value: &str) -> String {
    format!("{}?limit={limit}&{name}={}", uri.path(), utf8_percent_encode(value, ESCAPED))
}
