//! Where a client puts its token: in the header `Authorization`, or, for a handshake, in other places as well.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderValue};

/// The token in `Authorization`. `None`: there is none, or one of another scheme.
pub(super) fn in_authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION).and_then(of)
}

/// All tokens in `Authorization`: none, one, or several where a client contradicts itself.
pub(super) fn all_in_authorization(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(AUTHORIZATION).iter().filter_map(of)
}

fn of(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    // SimpleJWT accepts `Bearer` and, in older projects, `JWT`.
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("jwt")).then(|| token.trim())
}
