//! Who may change plugins: whoever shows the operators' token. Nothing of a request's body is read before.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request, State as Extract};
use axum::http::header::{AUTHORIZATION, CONNECTION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::super::State;
use super::super::error::ApiError;
use crate::protocol::{ErrorCode, Refusal};

/// The header in which the operator's tool says who uses it.
const OPERATOR: &str = "x-switchboard-operator";

/// The most characters of it that are kept.
const MAX_OPERATOR: usize = 100;

/// Lets a request pass that bears the token. Another one is answered, and its connection closed: what it has begun to
/// send is not waited for.
pub(super) async fn operators_only(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    let refused = match &state.admin_token {
        None => Refusal::new(
            ErrorCode::Denied,
            "this broker has no token for operators; set SWITCHBOARD_ADMIN_TOKEN or --admin-token-file",
        ),
        Some(token) if bears(request.headers(), token.reveal()) => return next.run(request).await,
        Some(_) => Refusal::new(
            ErrorCode::Unauthorized,
            "the operators' token is missing or wrong; send it as `Authorization: Bearer <token>`",
        ),
    };
    let mut answer = ApiError::from(refused).into_response();
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// In a time that does not depend on how much of the token is right.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown =
        header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, shown)) = shown else { return false };
    let (shown, token) = (Sha256::digest(shown.trim()), Sha256::digest(token));
    shown.iter().zip(token.iter()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// Who asks, as far as the tool says.
pub(super) struct Operator(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let said = parts.headers.get(OPERATOR).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name: String = said.chars().filter(char::is_ascii_graphic).take(MAX_OPERATOR).collect();
        // Nobody can pass for the broker itself.
        let named = !name.is_empty() && name != "broker";
        Ok(Self(if named { name } else { "operator".to_owned() }))
    }
}

/// A JSON body, refused in the one form of errors. An empty one is an empty object.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = axum::body::Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| ApiError::body(rejection.status()))?;
        let body = if body.is_empty() { b"{}".as_slice() } else { &body };
        serde_json::from_slice(body).map(Self).map_err(|error| {
            Refusal::new(ErrorCode::BadRequest, format!("the body is not what is expected here: {error}")).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let shown = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
        let token = "0123456789abcdef";
        assert!(bears(&shown("Bearer 0123456789abcdef"), token));
        assert!(bears(&shown("bearer  0123456789abcdef"), token));
        for wrong in ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "0123456789abcdef"] {
            assert!(!bears(&shown(wrong), token), "{wrong}");
        }
        assert!(!bears(&HeaderMap::new(), token));
    }
}
