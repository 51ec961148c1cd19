//! What `tests/fuzz` calls of the queries for pages, and of the links to other pages.

use axum::http::Uri;
use serde::Deserialize;

use super::paging;
use super::query::{self, Limit};

/// All parameters that a list may take.
#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
    before: Option<u64>,
    after: Option<u64>,
}

/// What a query asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub limit: u32,
    pub cursor: Option<String>,
    pub before: Option<u64>,
    pub after: Option<u64>,
}

/// The query of an address. `None` if it is refused, or is no address.
pub fn page(uri: &str) -> Option<Asked> {
    let Given { limit, cursor, before, after } = query::read(&uri.parse().ok()?, "a page").ok()?;
    Some(Asked { limit: limit.0, cursor, before, after })
}

/// The link from one page to another. `None` if the page has no address.
pub fn link(uri: &str, limit: u32, name: &str, value: &str) -> Option<String> {
    Some(paging::link(&uri.parse::<Uri>().ok()?, limit, name, value))
}
