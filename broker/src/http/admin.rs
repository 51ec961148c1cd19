// FOUNDER (21:18) to helper C: helper F (clone /work/h-admin) writes the admin ROUTES, token layer, OpenAPI, logs stream and app.operator(); F builds on your b7c11e2 CLI. You: Desk, converge loop, incidents, wiring in broker.rs, then tests/it/deploy.rs. Read NOTE-FROM-FOUNDER.md, git rm it, remove this line.
//! The routes for operators: health and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::State;

/// The routes of the listener for operators.
pub(super) fn routes(state: Arc<State>) -> Router {
    health().with_state(state)
}

/// The routes that both listeners have.
pub(super) fn health() -> Router<Arc<State>> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

async fn livez() -> &'static str {
    "live\n"
}

/// Ready: the store answers and the broker is not going away. A lost bus degrades the broker and is said, but clients of
/// this node are served.
async fn readyz(Extract(state): Extract<Arc<State>>) -> Response {
    if state.services.draining.borrow().is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if let Err(error) = state.services.store.ping().await {
        tracing::warn!(%error, "not ready: the store does not answer");
        return (StatusCode::SERVICE_UNAVAILABLE, "store unavailable\n").into_response();
    }
    let word = if state.bus.is_connected() { "ready\n" } else { "degraded: bus unavailable\n" };
    word.into_response()
}

async fn metrics(Extract(state): Extract<Arc<State>>) -> String {
    state.metrics.render()
}
