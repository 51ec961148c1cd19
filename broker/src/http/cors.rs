//! Lets pages of allowed origins use the REST routes from a browser (CORS).
//!
//! The origins are those that may open sockets. An allowed origin is named in the answer, also where any is allowed. Browsers
//! are never told that they may send cookies or passwords of their own: tokens are in a header, and there is nothing else
//! that a foreign page could use in somebody's name.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{ACCESS_CONTROL_ALLOW_METHODS, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tower::ServiceBuilder;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::state::State;
use crate::config::is_allowed;

/// How long a browser may remember what it was told before a request. Chromium remembers for at most two hours.
const REMEMBERED: Duration = Duration::from_secs(2 * 60 * 60);

/// Answers what browsers ask before a request, and tells them which answers a page may read.
pub(super) fn allow(routes: Router<Arc<State>>, state: &Arc<State>) -> Router<Arc<State>> {
    let state = Arc::clone(state);
    let is_allowed = move |origin: &HeaderValue, request: &Parts| {
        let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
        origin.to_str().is_ok_and(|origin| is_allowed(&state.allowed_origins, origin, host))
    };
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER])
        .max_age(REMEMBERED);
    routes.layer(ServiceBuilder::new().map_response(without_content).layer(cors))
}

/// The answer to what is asked before a request has no content, which the library says with 200.
fn without_content(mut response: Response) -> Response {
    if response.headers().contains_key(ACCESS_CONTROL_ALLOW_METHODS) {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
}
