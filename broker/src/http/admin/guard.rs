//! Restricts the routes for operators to requests with the operators' token.
//!
//! It checks only the head of a request: no byte of the body of a refused request is read.

use std::sync::Arc;

use axum::extract::{Request, State as Extract};
use axum::http::header::{AUTHORIZATION, CONNECTION, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::super::error::ApiError;
use super::super::state::State;
use crate::protocol::{ErrorCode, Refusal};

/// Lets a request pass if it has the token.
pub(super) async fn check(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    let Some(token) = &state.admin_token else {
        let message = "the broker has no operators' token; start it with SWITCHBOARD_ADMIN_TOKEN or --admin-token-file";
        return closing(ApiError::denied(message).into_response());
    };
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    if shown.is_some_and(|shown| is_same(shown, token.reveal().as_bytes())) {
        return next.run(request).await;
    }
    let refusal = Refusal::new(ErrorCode::Unauthorized, "send the operators' token as Authorization: Bearer TOKEN");
    closing(ApiError::from(refusal).into_response())
}

/// Closes the connection: since the body is not read, no request can follow.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Compares in constant time: how long it takes reveals nothing about the token but its length.
fn is_same(shown: &[u8], token: &[u8]) -> bool {
    shown.ct_eq(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_of_the_very_token_is_let_in() {
        let token = b"0123456789abcdef";
        let passes = |header: &[u8]| bearer(header).is_some_and(|shown| is_same(shown, token));
        for good in [&b"Bearer 0123456789abcdef"[..], b"bearer 0123456789abcdef", b"BEARER   0123456789abcdef "] {
            assert!(passes(good), "{}", String::from_utf8_lossy(good));
        }
        for bad in [
            &b""[..],
            b"Bearer",
            b"Bearer ",
            b"0123456789abcdef",
            b"Basic 0123456789abcdef",
            b"Bearer 0123456789abcde",
            b"Bearer 0123456789abcdef0",
            b"Bearer 0123456789abcdeF",
            b"Bearer 0123456789abcdef, Bearer 0123456789abcdef",
        ] {
            assert!(!passes(bad), "{}", String::from_utf8_lossy(bad));
        }
    }
}
