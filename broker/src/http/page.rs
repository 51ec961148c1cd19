//! The chat page, embedded in the program.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The page loads nothing from other hosts, and connects only to its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", include_str!("../../web/index.html")) }))
        .route("/chat.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("../../web/chat.js")) }))
        .route(
            "/client.js",
            get(|| async { file("text/javascript; charset=utf-8", include_str!("../../web/client.js")) }),
        )
        .route("/chat.css", get(|| async { file("text/css; charset=utf-8", include_str!("../../web/chat.css")) }))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
