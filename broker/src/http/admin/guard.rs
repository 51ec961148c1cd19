//! Who may use the routes for operators: whoever shows the token.
//!
//! It looks at the head of a request alone. A request that is refused has had no byte of its body read.

use std::sync::Arc;

use axum::extract::{Request, State as Extract};
use axum::http::header::{AUTHORIZATION, CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::super::error::ApiError;
use super::super::state::State;
use crate::protocol::{ErrorCode, Refusal};

/// Lets a request pass that shows the token.
pub(super) async fn check(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    let Some(token) = &state.admin_token else {
        let message =
            "no token for operators is set; start the broker with SWITCHBOARD_ADMIN_TOKEN or --admin-token-file";
        return closing(ApiError::denied(message).into_response());
    };
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    if shown.is_some_and(|shown| is_same(shown, token.reveal().as_bytes())) {
        return next.run(request).await;
    }
    let refusal = Refusal::new(ErrorCode::Unauthorized, "show the operators' token as Authorization: Bearer");
    let mut response = ApiError::from(refusal).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    closing(response)
}

/// The body is not read, so nothing can follow it on this connection.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Takes as long for every text of one length, and tells nothing of the token's.
fn is_same(shown: &[u8], token: &[u8]) -> bool {
    let (shown, token) = (Sha256::digest(shown), Sha256::digest(token));
    let difference = shown.iter().zip(&token).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
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
